// Loops over arrays in whole vectors and a tail, cut into tasks of a fixed size.
#pragma once

#include "weft/kernels/cpu/isa/vec.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {

/// Elements of one task of an elementwise loop; a multiple of every vector width.
constexpr int64_t kGrain = 16 << 10;

/// Loads and stores of a whole vector, or of the first few lanes.
struct Whole {
  static WEFT_INLINE Vec load(const float* p) { return Vec::load(p); }
  static WEFT_INLINE void store(Vec v, float* p) { v.store(p); }
  static WEFT_INLINE Mask load(const uint8_t* p) { return load_bytes(p, kWidth); }
  static WEFT_INLINE void store(Mask m, uint8_t* p) { store_bytes(m, p, kWidth); }
};
struct Few {
  int64_t count;
  WEFT_INLINE Vec load(const float* p) const { return Vec::load_first(p, count); }
  WEFT_INLINE void store(Vec v, float* p) const { v.store_first(p, count); }
  WEFT_INLINE Mask load(const uint8_t* p) const { return load_bytes(p, count); }
  WEFT_INLINE void store(Mask m, uint8_t* p) const { store_bytes(m, p, count); }
};

/// Calls body(access, i) for the vectors of [begin, end), i being the first element; access loads and stores
/// them.
template <class F>
WEFT_INLINE void each_vector(int64_t begin, int64_t end, F body) {
  int64_t i = begin;
  for (; i + kWidth <= end; i += kWidth) body(Whole{}, i);
  if (i < end) body(Few{end - i}, i);
}

/// The same over [0, n) on the thread pool. F must be a lambda of the calling file.
template <class F>
void parallel_vectors(int64_t n, F body) {
  parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) { each_vector(begin, end, body); });
}

/// Rows of a [rows, columns] array for one task.
WEFT_INLINE int64_t rows_per_task(int64_t columns) { return larger(1, kGrain / larger(1, columns)); }

}  // namespace weft::kernels::WEFT_ISA
