#include "weft/apps/weft/json_file.h"

#include <nlohmann/json.hpp>

#include "weft/engine/error.h"
#include "weft/engine/file.h"

namespace weft::app {

using nlohmann::json;

json read_json(const std::string& path, const std::string& mend) {
  constexpr int64_t kMostBytes = 64 << 20;
  const std::string text = read_file(path, kMostBytes);
  check_nesting(path, text);
  try {
    return json::parse(text);
  } catch (const json::exception&) {
    fail(path, ": not a JSON file", mend);
  }
}

std::string one_line(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace weft::app
