#include "weft/kernels/cuda/plan_cache.h"

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>

#include "weft/kernels/fnv.h"
#include "weft/kernels/nesting.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kFormat = 2;  // 1: sums that were hardly checked

}  // namespace

std::string plan_file(const std::string& folder, const std::string& key) {
  char name[32];
  std::snprintf(name, sizeof name, "plan-%016llx.json", static_cast<unsigned long long>(fnv1a(key)));
  return (std::filesystem::path(folder) / name).string();
}

std::optional<std::string> read_plan(const std::string& folder, const std::string& key) {
  std::ifstream file(plan_file(folder, key), std::ios::binary);
  if (!file) return {};
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (nesting(text) > kMaxNesting) return {};
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto is = [&](const char* name, const nlohmann::json& value) {
    const auto found = json.find(name);
    return found != json.end() && *found == value;
  };
  if (!json.is_object() || !is("format", kFormat) || !is("key", key)) return {};
  const auto plan = json.find("plan");
  if (plan == json.end() || !plan->is_string()) return {};
  return plan->get<std::string>();
}

bool write_plan(const std::string& folder, const std::string& key, const std::string& plan) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::string path = plan_file(folder, key), beside = path + "." + std::to_string(getpid()) + ".tmp";
  {
    std::ofstream file(beside, std::ios::binary);
    file << nlohmann::json{{"format", kFormat}, {"key", key}, {"plan", plan}}.dump(
                -1, ' ', true, nlohmann::json::error_handler_t::replace)
         << '\n';
    if (!file.flush()) {
      std::filesystem::remove(beside, error);
      return false;
    }
  }
  std::filesystem::rename(beside, path, error);
  if (!error) return true;
  std::error_code ignored;
  std::filesystem::remove(beside, ignored);
  return false;
}

}  // namespace weft::kernels::cuda
