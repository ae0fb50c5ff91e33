#include "weft/kernels/activations/random/rrelu.h"
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

// Philox in 64-bit lanes that hold 32-bit words, because its products have 64 bits.
constexpr int kCounters = kWidth / 2;
typedef uint64_t LongLanes __attribute__((vector_size(4 * kWidth)));

/// Products of the low halves.
WEFT_INLINE LongLanes multiply_words(LongLanes a, uint32_t b) {
  const LongLanes factor = uint64_t(b) - LongLanes{};
#if defined(WEFT_ISA_avx512)
  return LongLanes(_mm512_maskz_mul_epu32(0xff, __m512i(a), __m512i(factor)));
#elif defined(WEFT_ISA_avx2)
  return LongLanes(_mm256_mul_epu32(__m256i(a), __m256i(factor)));
#elif defined(__x86_64__)
  return LongLanes(_mm_mul_epu32(__m128i(a), __m128i(factor)));
#elif defined(WEFT_ISA_neon)
  return LongLanes(vmull_u32(vmovn_u64(uint64x2_t(a)), vmovn_u64(uint64x2_t(factor))));
#else
  return (a & 0xffffffffu) * factor;
#endif
}

/// The words of kCounters counters from `first` on, in the order of philox() of philox.h. The even lanes
/// take the first half of the counters and the odd lanes the second, so that interleaving front and back puts
/// the words in order. What is above a word in c0 to c3 is of no account until the end.
WEFT_INLINE void philox_block(uint64_t key, uint64_t first, uint32_t* words) {
  LongLanes counter = first - LongLanes{};
  for (int i = 0; i < kCounters; ++i) counter[i] += uint64_t(i / 2 + i % 2 * kCounters / 2);
  LongLanes c0 = counter, c1 = counter >> 32, c2 = {}, c3 = {};
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const LongLanes p0 = multiply_words(c0, 0xD2511F53u), p1 = multiply_words(c2, 0xCD9E8D57u);
    c0 = (p1 >> 32) ^ c1 ^ uint64_t { k0 };
    c1 = p1;
    c2 = (p0 >> 32) ^ c3 ^ uint64_t { k1 };
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const LongLanes low = uint64_t{0xffffffffu} - LongLanes{};
  const LongLanes front = (c0 & low) | c1 << 32, back = (c2 & low) | c3 << 32;
#if defined(WEFT_ISA_avx512)
  _mm512_storeu_si512(words, _mm512_maskz_unpacklo_epi64(0xff, __m512i(front), __m512i(back)));
  _mm512_storeu_si512(words + 16, _mm512_maskz_unpackhi_epi64(0xff, __m512i(front), __m512i(back)));
#else
  for (int i = 0; i < kCounters; ++i) {
    const int first_word = i % 2 * 2 * kCounters + i / 2 * 4;
    words[first_word] = uint32_t(front[i]);
    words[first_word + 1] = uint32_t(front[i] >> 32);
    words[first_word + 2] = uint32_t(back[i]);
    words[first_word + 3] = uint32_t(back[i] >> 32);
  }
#endif
}

/// Calls body(access, i, words) for the vectors of [0, n), words being those of the stream `key` at positions
/// i, i + 1, ... F must be a lambda of the calling file.
template <class F>
void parallel_drawn(int64_t n, uint64_t key, F body) {
  parallel_ranges(n, kGrain, [=](int64_t begin, int64_t end) {
    constexpr int64_t kWords = 4 * kCounters, kBlock = 8 * kWords;
    for (int64_t i = begin; i < end; i += kBlock) {
      alignas(4 * kWidth) uint32_t words[kBlock];
      for (int64_t j = 0; j < kBlock; j += kWords) philox_block(key, uint64_t(i + j) >> 2, words + j);
      each_vector(0, smaller(kBlock, end - i), [&](auto at, int64_t j) {
        WordLanes drawn;
        std::memcpy(&drawn, words + j, sizeof drawn);
        body(at, i + j, drawn);
      });
    }
  });
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
    case Unary::sin:
      return map(n, x, y, [](Vec v) { return sin(v); });
    case Unary::cos:
      return map(n, x, y, [](Vec v) { return cos(v); });
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
    case Unary::sin:
      return map_backward(n, x, dy, dx, [](Vec v) { return cos(v); });
    case Unary::cos:
      return map_backward(n, x, dy, dx, [](Vec v) { return -sin(v); });
  }
}

// The cases are those of power() of kernels/power.h. For the others SIMD in doubles, which is as accurate as
// the C library, has been measured to be hardly faster (5.3 against 5.8 ns with AVX2).
void pow(float exponent, int64_t n, const float* x, float* y) {
  if (exponent == 0) return map(n, x, y, [](Vec) { return Vec(1.0f); });
  if (exponent == 1) return map(n, x, y, [](Vec v) { return v; });
  if (exponent == 2) return map(n, x, y, [](Vec v) { return v * v; });
  if (exponent == 3) return map(n, x, y, [](Vec v) { return v * v * v; });
  if (exponent == 0.5f) return map(n, x, y, [](Vec v) { return sqrt(v); });
  if (exponent == -0.5f) return map(n, x, y, [](Vec v) { return Vec(1.0f) / sqrt(v); });
  if (exponent == -1) return map(n, x, y, [](Vec v) { return Vec(1.0f) / v; });
  if (exponent == -2) return map(n, x, y, [](Vec v) { return (Vec(1.0f) / v) * (Vec(1.0f) / v); });
  map(n, x, y, [=](Vec v) {
    for (int i = 0; i < kWidth; ++i) v.v[i] = __builtin_powf(v.v[i], exponent);
    return v;
  });
}

void affine(int64_t n, float alpha, float beta, const float* x, float* y) {
  map(n, x, y, [=](Vec v) { return fma(Vec(alpha), v, Vec(beta)); });
}

void choose_backward(int64_t n, const float* a, const float* b, const float* y, const float* dy, float* da,
                     float* db) {
  parallel_vectors(n, [=](auto at, int64_t i) {
    const Vec u = at.load(a + i), v = at.load(b + i), chosen = at.load(y + i), g = at.load(dy + i);
    const Vec both = select(u == v, g * Vec(0.5f), select(chosen != chosen, g, Vec(0.0f)));
    const Mask one = (u != v) & (chosen == chosen);
    at.store(select(one & (chosen == u), g, both), da + i);
    at.store(select(one & (chosen == v), g, both), db + i);
  });
}

void dropout(int64_t n, double p, const uint64_t* key, const float* x, float* y) {
  // word >= p 2^32 as a comparison of whole numbers.
  const double bound = p * 0x1p32;
  uint64_t least = uint64_t(bound);
  if (double(least) < bound) ++least;
  if (least > 0xffffffffu) return map(n, x, y, [](Vec) { return Vec(0.0f); });
  const float scale = float(1 / (1 - p));
  const uint32_t threshold = uint32_t(least);
  parallel_drawn(n, *key, [=](auto at, int64_t i, WordLanes drawn) {
    const Mask keep{IntLanes(drawn >= threshold - WordLanes{})};
    at.store(select(keep, at.load(x + i) * Vec(scale), Vec(0.0f)), y + i);
  });
}

void rrelu(int64_t n, double lower, double upper, const uint64_t* key, const float* x, const float* in,
           float* out) {
  const float low = float(lower), range = float(upper - lower);
  parallel_drawn(n, *key, [=](auto at, int64_t i, WordLanes drawn) {
    // As uniform_float() of philox.h: 24 bits.
    const Vec u = Vec(__builtin_convertvector(IntLanes(drawn >> 8), FloatLanes)) * Vec(0x1p-24f);
    at.store(at.load(in + i) * activations::rrelu::slope(at.load(x + i), Vec(low), Vec(range), u), out + i);
  });
}

}  // namespace weft::kernels::WEFT_ISA
