#include "weft/apps/weft/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>

namespace weft::app {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;  // "max" is no number
  return std::nullopt;
}

int64_t available_by_kernel(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  int64_t kilobytes = 0;
  for (std::string key, rest; file >> key; std::getline(file, rest))
    if (key == "MemAvailable:" && file >> kilobytes) return kilobytes * 1024;
  return 0;
}

/// "/a/b" where /proc/self/cgroup has the line "0::/a/b".
std::string control_group(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("0::/")) return line.substr(3);
  return "";
}

/// The least that this process's group and those above it leave.
int64_t available_by_group(const std::string& root) {
  int64_t least = kNoLimit;
  std::string group = control_group(root);
  if (group.empty()) return least;
  if (group == "/") group.clear();
  while (true) {
    const std::string folder = root + "/sys/fs/cgroup" + group;
    const auto limit = number_in(folder + "/memory.max"), used = number_in(folder + "/memory.current");
    if (limit && used) least = std::min(least, std::max<int64_t>(0, *limit - *used));
    if (group.empty()) return least;
    group.erase(group.rfind('/'));
  }
}

}  // namespace

int64_t available_memory_bytes(const std::string& root) {
  return std::min(available_by_kernel(root), available_by_group(root));
}

int64_t default_cache_bytes() { return available_memory_bytes() / 4; }

}  // namespace weft::app
