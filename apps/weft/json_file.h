// JSON in files and on lines of output.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace weft::app {

/// The JSON that a file holds. Throws Error naming it where it cannot be read, nests too deep or is no JSON;
/// `mend` stands behind the last.
nlohmann::json read_json(const std::string& path, const std::string& mend = "");

/// On one line. Bytes that are not UTF-8, as in the name of a file, become U+FFFD.
std::string one_line(const nlohmann::json& value);

}  // namespace weft::app
