#pragma once

#include <cstdlib>
#include <cstring>

namespace weft::test {

/// WEFT_TEST_LIGHT=1: less of what only repeats the same code, for tools under which each call takes many
/// times as long.
inline bool light() {
  const char* given = std::getenv("WEFT_TEST_LIGHT");
  return given && std::strcmp(given, "1") == 0;
}

}  // namespace weft::test
