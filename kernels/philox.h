// Philox4x32-10, the counter-based random numbers of Salmon et al., "Parallel random numbers: as easy as 1,
// 2, 3" (SC 2011). The number at a position is a pure function of (key, counter): no state, the same on any
// number of threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace weft::kernels {

/// Four random 32-bit words for 64-bit `key` and 128-bit counter (lo, hi).
constexpr std::array<uint32_t, 4> philox(uint64_t key, uint64_t lo, uint64_t hi = 0) {
  std::array<uint32_t, 4> c{uint32_t(lo), uint32_t(lo >> 32), uint32_t(hi), uint32_t(hi >> 32)};
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {uint32_t(p1 >> 32) ^ c[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c[3] ^ k1, uint32_t(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// Uniform in [0, 1) with 24 random bits.
constexpr float uniform_float(uint32_t word) { return float(word >> 8) * 0x1p-24f; }
/// Uniform in [0, 1) with 53 random bits.
constexpr double uniform_double(uint32_t a, uint32_t b) {
  return double((uint64_t(a) << 21) ^ (uint64_t(b) >> 11)) * 0x1p-53;
}

/// Position i of the stream `key`: uniform in [0, 1).
inline float uniform_at(uint64_t key, int64_t i) {
  return uniform_float(philox(key, uint64_t(i) >> 2)[size_t(i & 3)]);
}

/// Position i of the dropout stream `key`: true with probability 1 - p.
inline bool dropout_keep(uint64_t key, int64_t i, double p) {
  return double(philox(key, uint64_t(i) >> 2)[i & 3]) >= p * 0x1p32;
}

}  // namespace weft::kernels
