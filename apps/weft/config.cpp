#include "weft/apps/weft/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <type_traits>

#include "weft/apps/weft/augmentation.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/settings.h"
#include "weft/engine/data/file_tree.h"
#include "weft/engine/device.h"
#include "weft/engine/whole_number.h"

namespace weft::app {

using nlohmann::json;

std::string flag_of(const std::string& key) {
  std::string flag = "--" + key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

json to_json(const TrainConfig& config) {
  json out = json::object();
  visit_settings(config, [&](const char* key, const auto& value, auto&&...) { out[key] = value; });
  return out;
}

void from_json(const json& in, const std::string& path, TrainConfig& config) {
  check(in.is_object(), path, ": not a config.json of a run (expected a JSON object)");
  TrainConfig parsed = config;
  std::vector<std::string> known = {"weft_version"};
  visit_settings(parsed, [&](const char* key, auto& value, auto&&...) {
    known.push_back(key);
    const auto found = in.find(key);
    if (found == in.end()) return;
    using T = std::remove_reference_t<decltype(value)>;
    const std::string what = concat(path, ": \"", key, "\"");
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      value = whole_number<T>(*found, what);
    } else {
      const bool fits = std::is_same_v<T, bool>          ? found->is_boolean()
                        : std::is_same_v<T, std::string> ? found->is_string()
                                                         : found->is_number();
      if (!fits) fail(what, " cannot be ", found->is_structured() ? "a list" : found->dump().substr(0, 80));
      value = found->template get<T>();
    }
  });
  for (const auto& [key, value] : in.items())
    check(std::find(known.begin(), known.end(), key) != known.end(), path, ": unknown setting \"", key, "\"");
  config = parsed;
}

std::string config_file(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error) ? (std::filesystem::path(path) / "config.json").string()
                                                    : path;
}

void read_config(const std::string& path, TrainConfig& config) {
  const std::string file = config_file(path);
  from_json(read_json(file), file, config);
}

void set_setting(TrainConfig& config, const std::string& where, std::string key, const std::string& text) {
  std::replace(key.begin(), key.end(), '-', '_');
  std::vector<std::string> known;
  const auto refuse = [&](const char* wanted) {
    usage_error(where, ": '", text, "' is no value of ", key, ", which must be ", wanted);
  };
  visit_settings(config, [&](const char* name, auto& value, auto&&...) {
    known.push_back(name);
    if (key != name) return;
    using T = std::remove_reference_t<decltype(value)>;
    if constexpr (std::is_same_v<T, std::string>) {
      value = text;
    } else if constexpr (std::is_same_v<T, bool>) {
      if (text != "true" && text != "false") refuse("true or false");
      value = text == "true";
    } else {
      const char* const end = text.data() + text.size();
      const auto [stop, error] = std::from_chars(text.data(), end, value);
      if (stop != end || error != std::errc())
        refuse(std::is_floating_point_v<T> ? "a number" : "a whole number");
    }
  });
  require_known(where, key, known);
}

std::vector<std::string> differing_flags(const TrainConfig& a, const TrainConfig& b) {
  const json left = to_json(a), right = to_json(b);
  std::vector<std::string> flags;
  for (const auto& [key, value] : left.items())
    if (right[key] != value) flags.push_back(flag_of(key));
  return flags;
}

namespace {

template <class T>
void require(bool ok, const char* key, const T& value, const std::string& expected) {
  if (!ok) usage_error(flag_of(key), " must be ", expected, ", got ", value);
}

/// "8 to 4096", "above 0", "at least 0 and below 1".
std::string limits_text(const Limits& r) {
  const bool open = r.open_low || r.open_high;
  if (std::isinf(r.high)) return open ? fmt::format("above {}", r.low) : fmt::format("{} or more", r.low);
  if (!open) return fmt::format("{} to {}", r.low, r.high);
  return fmt::format("{} {} and {} {}", r.open_low ? "above" : "at least", r.low,
                     r.open_high ? "below" : "at most", r.high);
}

// By what the list of settings allows.
void check_setting(const char*, const auto&) {}
template <class T>
void check_setting(const char* key, T value, const Limits& r) {
  const double v = double(value);
  const bool high_enough = r.open_low ? v > r.low : v >= r.low;
  const bool low_enough = r.open_high ? v < r.high : v <= r.high;
  require(std::isfinite(v) && high_enough && low_enough, key, value, limits_text(r));
}
void check_setting(const char* key, const std::string& value, const auto& names) {
  require_known(flag_of(key), value, names());
}

}  // namespace

void validate(const TrainConfig& c) {
  visit_settings(c, [](const char* key, const auto& value, const auto&, auto&&... allowed) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, std::string>)
      if (data::as_utf8(value) != value)
        usage_error(flag_of(key), ": its value is not UTF-8; rename what it names");
    check_setting(key, value, allowed...);
  });
  if (c.exact && c.device == "cpu" && c.precision != "fp32")
    usage_error("--exact on the CPU is fp32; leave it or --precision ", c.precision, " out");
  place_of(c.device, c.precision);
  require_fitting(c.model, c.sa || c.sym, c.size);
  require(c.valid_resize == 0 || (c.valid_resize >= c.size && c.valid_resize <= kMostResize), "valid_resize",
          c.valid_resize, "0 or from --size to 8192");
  require(c.pad_mode == "constant" || c.pad_mode == "reflect", "pad_mode", c.pad_mode, "constant or reflect");
  require(c.pad >= 0 && c.pad <= c.size - (c.pad_mode == "reflect"), "pad", c.pad,
          "0 to --size, below it to reflect");
  parse_jitter(c.jitter);
  if (c.exact && c.tune) usage_error("--tune has nothing to choose from with --exact; leave one of them out");
  const size_t colon = c.noisy_labels.rfind(':');
  require(c.noisy_labels.empty() ||
              (colon != std::string::npos && colon > 0 && colon + 1 < c.noisy_labels.size()),
          "noisy_labels", c.noisy_labels, "CSV:COLUMN");
}

}  // namespace weft::app
