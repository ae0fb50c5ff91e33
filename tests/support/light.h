#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace weft::test {

/// WEFT_TEST_LIGHT=1: less of what only repeats the same code, for tools under which each call takes many
/// times as long.
inline bool light() {
  const char* given = std::getenv("WEFT_TEST_LIGHT");
  return given && std::strcmp(given, "1") == 0;
}

/// All of them; light: every third, and the last.
inline std::vector<int64_t> some(std::vector<int64_t> all) {
  if (!light()) return all;
  std::vector<int64_t> few;
  for (size_t i = 0; i < all.size(); ++i)
    if (i % 3 == 0 || i + 1 == all.size()) few.push_back(all[i]);
  return few;
}

}  // namespace weft::test
