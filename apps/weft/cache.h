#pragma once

#include <filesystem>

namespace weft::app {

/// Where weft keeps what it can make or fetch again: $XDG_CACHE_HOME/weft, else ~/.cache/weft. Throws Error
/// where neither variable is set.
std::filesystem::path cache_folder();

}  // namespace weft::app
