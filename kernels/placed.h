// How CPU and GPU sort: an element of a column as a number, above its key, below where it stands. So no two
// are equal, and any sort is a stable one.
#pragma once

#include <bit>
#include <cstdint>

#include "weft/kernels/host_device.h"

namespace weft::kernels {

using Placed = uint64_t;

WEFT_HD inline Placed placed(uint32_t key, int64_t at) { return Placed{key} << 32 | uint64_t(at); }
WEFT_HD inline uint32_t key_of(Placed e) { return uint32_t(e >> 32); }
WEFT_HD inline int64_t place_of(Placed e) { return int64_t(e & 0xffffffffu); }

/// A number whose order is that of the floats, NaN last, or the other way round.
WEFT_HD inline uint32_t sort_key(float v, bool descending) {
  const uint32_t bits = std::bit_cast<uint32_t>(v + 0.0f);  // -0 is 0
  const uint32_t ordered = bits ^ (uint32_t(int32_t(bits) >> 31) | 0x80000000u);
  const uint32_t ascending = v != v ? ~0u : ordered;
  return descending ? ~ascending : ascending;
}

}  // namespace weft::kernels
