#pragma once

namespace weft::app {
/// Of the project, from CMake.
constexpr const char* kVersion = WEFT_VERSION;
}  // namespace weft::app
