// A hash that is the same everywhere, for what is written into files.
#pragma once

#include <cstdint>
#include <string_view>

namespace weft {

/// FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/. With the hash of a text as `before` it's that
/// of both, one behind the other.
inline uint64_t fnv1a(std::string_view text, uint64_t before = 0xcbf29ce484222325u) {
  for (const char c : text) before = (before ^ uint8_t(c)) * 0x100000001b3u;
  return before;
}

}  // namespace weft
