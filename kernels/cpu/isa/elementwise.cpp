#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {
namespace {

template <class F>
void map(int64_t n, const float* x, float* y, F f) {
  parallel_vectors(n, [=](auto at, int64_t i) { at.store(f(at.load(x + i)), y + i); });
}

/// dx = dy * slope(x)
template <class F>
void map_backward(int64_t n, const float* x, const float* dy, float* dx, F slope) {
  parallel_vectors(n, [=](auto at, int64_t i) { at.store(at.load(dy + i) * slope(at.load(x + i)), dx + i); });
}

constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
constexpr int kCounters = 16;  // counters of Philox taken together

/// The four words of `kCounters` consecutive counters, out[counter][word]: philox() of philox.h, written as
/// loops over the counters, which the compiler turns into vectors.
WEFT_INLINE void philox_block(uint64_t key, uint64_t first, uint32_t (&out)[kCounters][4]) {
  uint32_t c0[kCounters], c1[kCounters], c2[kCounters] = {}, c3[kCounters] = {};
  for (int i = 0; i < kCounters; ++i) {
    c0[i] = uint32_t(first + uint64_t(i));
    c1[i] = uint32_t((first + uint64_t(i)) >> 32);
  }
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kCounters; ++i) {
      const uint64_t p0 = uint64_t{kMultiplier0} * c0[i], p1 = uint64_t{kMultiplier1} * c2[i];
      c0[i] = uint32_t(p1 >> 32) ^ c1[i] ^ k0;
      c1[i] = uint32_t(p1);
      c2[i] = uint32_t(p0 >> 32) ^ c3[i] ^ k1;
      c3[i] = uint32_t(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kCounters; ++i) {
    out[i][0] = c0[i];
    out[i][1] = c1[i];
    out[i][2] = c2[i];
    out[i][3] = c3[i];
  }
}

}  // namespace

void unary(Unary op, int64_t n, const float* x, float* y) {
  switch (op) {
    case Unary::neg:
      return map(n, x, y, [](Vec v) { return -v; });
    case Unary::exp:
      return map(n, x, y, [](Vec v) { return exp(v); });
    case Unary::log:
      return map(n, x, y, [](Vec v) { return log(v); });
    case Unary::sqrt:
      return map(n, x, y, [](Vec v) { return sqrt(v); });
    case Unary::square:
      return map(n, x, y, [](Vec v) { return v * v; });
    case Unary::abs:
      return map(n, x, y, [](Vec v) { return abs(v); });
    case Unary::reciprocal:
      return map(n, x, y, [](Vec v) { return Vec(1.0f) / v; });
  }
}

void unary_backward(Unary op, int64_t n, const float* x, const float* dy, float* dx) {
  switch (op) {
    case Unary::neg:
      return map_backward(n, x, dy, dx, [](Vec) { return Vec(-1.0f); });
    case Unary::exp:
      return map_backward(n, x, dy, dx, [](Vec v) { return exp(v); });
    case Unary::log:
      return map_backward(n, x, dy, dx, [](Vec v) { return Vec(1.0f) / v; });
    case Unary::sqrt:
      return map_backward(n, x, dy, dx, [](Vec v) { return Vec(0.5f) / sqrt(v); });
    case Unary::square:
      return map_backward(n, x, dy, dx, [](Vec v) { return Vec(2.0f) * v; });
    case Unary::abs:  // 0 at the kink
      return map_backward(n, x, dy, dx, [](Vec v) {
        return select(v > Vec(0.0f), Vec(1.0f), select(v < Vec(0.0f), Vec(-1.0f), Vec(0.0f)));
      });
    case Unary::reciprocal:
      return map_backward(n, x, dy, dx, [](Vec v) { return Vec(-1.0f) / (v * v); });
  }
}

void affine(int64_t n, float alpha, float beta, const float* x, float* y) {
  map(n, x, y, [=](Vec v) { return fma(Vec(alpha), v, Vec(beta)); });
}

void dropout(int64_t n, double p, uint64_t key, const float* x, float* y) {
  // word >= p 2^32 as a comparison of whole numbers.
  const double bound = p * 0x1p32;
  uint64_t least = uint64_t(bound);
  if (double(least) < bound) ++least;
  const double scale = 1 / (1 - p);
  constexpr int64_t kBlock = 4 * kCounters;
  parallel_ranges(n, kGrain, [=](int64_t begin, int64_t end) {
    uint32_t words[kCounters][4];
    for (int64_t i = begin; i < end; i += kBlock) {
      philox_block(key, uint64_t(i) >> 2, words);
      const int64_t count = smaller(kBlock, end - i);
      for (int64_t j = 0; j < count; ++j)
        y[i + j] = words[j >> 2][j & 3] >= least ? float(double(x[i + j]) * scale) : 0.0f;
    }
  });
}

}  // namespace weft::kernels::WEFT_ISA
