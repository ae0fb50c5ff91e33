// Walks [rows, channels] in strips of a few vectors of channels down a block of rows, so that what belongs to
// a channel stays in registers and the block in the first cache.
#pragma once

#include "weft/kernels/cpu/isa/loops.h"

namespace weft::kernels::WEFT_ISA {

// The rows of a block: its elements fit the first cache. Rounding errors grow with the length of a sum, so at
// most so many rows are summed before they join the total.
constexpr int64_t kBlockElements = 4096, kLeastRows = 8, kMostRows = 128;

/// A number of vectors, as a type.
template <int n>
struct Strip {};

/// Calls f(strip, access, first, last, c) for the blocks of rows [first, last) of [begin, end) and the strips
/// of channels from c on, of 4 vectors or `most`, 2, where more would not fit into the registers.
template <int most = 4, class F>
WEFT_INLINE void each_strip(int64_t begin, int64_t end, int64_t channels, F f) {
  const int64_t rows = smaller(kMostRows, larger(kLeastRows, kBlockElements / channels));
  for (int64_t first = begin; first < end; first += rows) {
    const int64_t last = smaller(end, first + rows);
    int64_t c = 0;
    if constexpr (most >= 4)
      for (; c + 4 * kWidth <= channels; c += 4 * kWidth) f(Strip<4>{}, Whole{}, first, last, c);
    for (; c + 2 * kWidth <= channels; c += 2 * kWidth) f(Strip<2>{}, Whole{}, first, last, c);
    for (; c + kWidth <= channels; c += kWidth) f(Strip<1>{}, Whole{}, first, last, c);
    if (c < channels) f(Strip<1>{}, Few{channels - c}, first, last, c);
  }
}

// The most parts that are summed apart, and the least elements worth a part.
constexpr int64_t kMostParts = 64, kLeastPart = 16 << 10;

/// Rows cut into parts by their size.
struct Parts {
  int64_t rows, count;  // all rows, parts
  Parts(int64_t all_rows, int64_t channels, int64_t most = kMostParts)
      : rows(all_rows), count(larger(1, smaller(smaller(most, rows), rows * channels / kLeastPart))) {}
  int64_t begin(int64_t part) const { return part * rows / count; }
};

inline void clear(float* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = 0;
}

}  // namespace weft::kernels::WEFT_ISA
