#include "weft/apps/weft/cache.h"

#include <cstdlib>

#include "weft/engine/error.h"

namespace weft::app {

std::filesystem::path cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && cache[0] == '/')
    return std::filesystem::path(cache) / "weft";
  const char* home = std::getenv("HOME");
  check(home && home[0], "no folder for the sample set and downloads: set HOME or XDG_CACHE_HOME");
  return std::filesystem::path(home) / ".cache" / "weft";
}

}  // namespace weft::app
