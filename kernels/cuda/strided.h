// Walks of kernels over strided arrays: dense positions into offsets, without divisions.
#pragma once

#include <array>
#include <cstdint>

#include "weft/kernels/host_device.h"
#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

/// n / d for 0 <= n < 2^31 by a multiplication and a shift (Granlund and Montgomery, "Division by invariant
/// integers using multiplication", PLDI 1994).
struct Divisor {
  uint32_t d = 1, magic = 1, shift = 0;

  Divisor() = default;
  /// 1 <= divisor < 2^31
  explicit Divisor(uint32_t divisor) : d(divisor) {
    while ((uint64_t{1} << shift) < d) ++shift;
    magic = uint32_t(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - d)) / d + 1);
  }
  WEFT_HD uint32_t divide(uint32_t n) const { return (uint32_t((uint64_t(n) * magic) >> 32) + n) >> shift; }
};

/// K arrays over one shape, each with its own strides.
template <int K>
struct Strided {
  int ndim = 0;
  std::array<int64_t, kMaxDims> size{};
  std::array<std::array<int64_t, kMaxDims>, size_t(K)> stride{};

  int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= size[size_t(d)];
    return n;
  }
  void erase(int dim) {
    --ndim;
    for (int d = dim; d < ndim; ++d) {
      size[size_t(d)] = size[size_t(d) + 1];
      for (auto& s : stride) s[size_t(d)] = s[size_t(d) + 1];
    }
  }
  /// Drops dimensions of size 1 and joins neighbours that all arrays walk as one.
  void collapse() {
    for (int d = ndim - 1; d >= 0; --d)
      if (size[size_t(d)] == 1) erase(d);
    for (int d = ndim - 2; d >= 0; --d) {
      const size_t outer = size_t(d), inner = outer + 1;
      bool joined = true;
      for (const auto& s : stride) joined = joined && s[outer] == s[inner] * size[inner];
      if (!joined) continue;
      size[inner] *= size[outer];
      erase(d);
    }
  }
};

/// A Strided of fewer than 2^31 elements for the device.
template <int K>
struct Walk {
  int ndim = 0;
  Divisor size[kMaxDims];
  int64_t stride[K][kMaxDims] = {};

  explicit Walk(const Strided<K>& s) : ndim(s.ndim) {
    for (int d = 0; d < ndim; ++d) {
      size[d] = Divisor(uint32_t(s.size[size_t(d)]));
      for (int k = 0; k < K; ++k) stride[k][d] = s.stride[size_t(k)][size_t(d)];
    }
  }
  /// Offsets of element i (in row-major order) in the K arrays.
  WEFT_HD void offsets(uint32_t i, int64_t (&offset)[K]) const {
    for (int k = 0; k < K; ++k) offset[k] = 0;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
    for (int d = kMaxDims - 1; d >= 0; --d) {
      if (d >= ndim) continue;
      const uint32_t outer = d == 0 ? 0 : size[d].divide(i);
      const int64_t at = i - outer * size[d].d;
      for (int k = 0; k < K; ++k) offset[k] += at * stride[k][d];
      i = outer;
    }
  }
};

constexpr int64_t kMaxWalk = (int64_t{1} << 31) - 1;

/// Calls f(part, start, offset) for parts of `s` of at most `limit` elements, in order, where start is the
/// row-major position of its first element and offset[k] the place of array k's.
template <int K, class F>
void each_part(Strided<K> s, const F& f, int64_t limit = kMaxWalk, int64_t start = 0,
               std::array<int64_t, size_t(K)> offset = {}) {
  const int64_t n = s.count();
  if (n <= limit) return f(s, start, offset);
  if (s.size[0] == 1) s.erase(0);
  const int64_t outer = s.size[0], half = outer / 2;
  if (outer == 1) return each_part(s, f, limit, start, offset);
  s.size[0] = half;
  each_part(s, f, limit, start, offset);
  s.size[0] = outer - half;
  for (size_t k = 0; k < size_t(K); ++k) offset[k] += half * s.stride[k][0];
  each_part(s, f, limit, start + n / outer * half, offset);
}

}  // namespace weft::kernels::cuda
