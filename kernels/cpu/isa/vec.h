// One SIMD vector of floats in this file's instruction set, on the compiler's vector extensions, so that the
// same source makes AVX-512, AVX2, SSE2 and NEON. Arithmetic, comparison and selection; the functions are in
// vec_math.h.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(WEFT_ISA_neon)
#include <arm_neon.h>
#endif

namespace weft::kernels::WEFT_ISA {

#if defined(WEFT_ISA_avx512)
constexpr int kWidth = 16;
#elif defined(WEFT_ISA_avx2)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

#define WEFT_INLINE inline __attribute__((always_inline))

typedef float FloatLanes __attribute__((vector_size(4 * kWidth)));
typedef int32_t IntLanes __attribute__((vector_size(4 * kWidth)));
typedef float UnalignedLanes __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));

/// Lanes of -1 (true) or 0, the result of a comparison.
struct Mask {
  IntLanes v;
};

#if defined(WEFT_ISA_avx512)
WEFT_INLINE __mmask16 first_lanes(int64_t n) { return __mmask16((1u << n) - 1); }
#elif defined(WEFT_ISA_avx2) && !defined(__SANITIZE_ADDRESS__)  // which does not see masked accesses
#define WEFT_AVX2_MASKED
WEFT_INLINE __m256i first_lanes(int64_t n) {
  alignas(32) static constexpr int32_t kLanes[2 * kWidth] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLanes + kWidth - n));
}
#endif

struct Vec {
  FloatLanes v;

  Vec() = default;
  WEFT_INLINE Vec(FloatLanes lanes) : v(lanes) {}
  WEFT_INLINE Vec(float s) : v(s - FloatLanes{}) {}  // minus zero keeps every s, -0 included

  static WEFT_INLINE Vec load(const float* p) {
    return Vec(FloatLanes(*reinterpret_cast<const UnalignedLanes*>(p)));
  }
  WEFT_INLINE void store(float* p) const { *reinterpret_cast<UnalignedLanes*>(p) = v; }
  /// The first n lanes (0 < n <= kWidth), the rest `fill`.
  static WEFT_INLINE Vec load_first(const float* p, int64_t n, float fill = 0) {
#if defined(WEFT_ISA_avx512)
    return Vec(FloatLanes(_mm512_mask_loadu_ps(Vec(fill).v, first_lanes(n), p)));
#elif defined(WEFT_AVX2_MASKED)
    const __m256i lanes = first_lanes(n);
    return Vec(FloatLanes(_mm256_blendv_ps(Vec(fill).v, _mm256_maskload_ps(p, lanes), __m256(lanes))));
#else
    alignas(4 * kWidth) float lanes[kWidth];
    Vec(fill).store(lanes);
    std::memcpy(lanes, p, size_t(n) * sizeof(float));
    return load(lanes);
#endif
  }
  WEFT_INLINE void store_first(float* p, int64_t n) const {
#if defined(WEFT_ISA_avx512)
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
#elif defined(WEFT_AVX2_MASKED)
    _mm256_maskstore_ps(p, first_lanes(n), v);
#else
    alignas(4 * kWidth) float lanes[kWidth];
    store(lanes);
    std::memcpy(p, lanes, size_t(n) * sizeof(float));
#endif
  }

  WEFT_INLINE Vec operator-() const { return Vec(-v); }
  WEFT_INLINE Vec& operator+=(Vec b) { return v += b.v, *this; }
  WEFT_INLINE Vec& operator*=(Vec b) { return v *= b.v, *this; }
};

WEFT_INLINE Vec operator+(Vec a, Vec b) { return Vec(a.v + b.v); }
WEFT_INLINE Vec operator-(Vec a, Vec b) { return Vec(a.v - b.v); }
WEFT_INLINE Vec operator*(Vec a, Vec b) { return Vec(a.v * b.v); }
WEFT_INLINE Vec operator/(Vec a, Vec b) { return Vec(a.v / b.v); }
WEFT_INLINE Mask operator<(Vec a, Vec b) { return {IntLanes(a.v < b.v)}; }
WEFT_INLINE Mask operator>(Vec a, Vec b) { return {IntLanes(a.v > b.v)}; }
WEFT_INLINE Mask operator<=(Vec a, Vec b) { return {IntLanes(a.v <= b.v)}; }
WEFT_INLINE Mask operator>=(Vec a, Vec b) { return {IntLanes(a.v >= b.v)}; }
WEFT_INLINE Mask operator==(Vec a, Vec b) { return {IntLanes(a.v == b.v)}; }
WEFT_INLINE Mask operator!=(Vec a, Vec b) { return {IntLanes(a.v != b.v)}; }
WEFT_INLINE Mask operator&(Mask a, Mask b) { return {a.v & b.v}; }
WEFT_INLINE Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }

/// a * b + c, one rounding where the instruction set has it.
WEFT_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(WEFT_ISA_avx512)
  return Vec(FloatLanes(_mm512_fmadd_ps(a.v, b.v, c.v)));
#elif defined(WEFT_ISA_avx2)
  return Vec(FloatLanes(_mm256_fmadd_ps(a.v, b.v, c.v)));
#elif defined(WEFT_ISA_neon)
  return Vec(FloatLanes(vfmaq_f32(c.v, a.v, b.v)));
#else
  return Vec(a.v * b.v + c.v);
#endif
}
/// Bytes of 1 (true) or 0, the form of a mask in memory: the first n of them, 0 < n <= kWidth.
typedef uint8_t ByteLanes __attribute__((vector_size(kWidth)));
WEFT_INLINE void store_bytes(Mask m, uint8_t* p, int64_t n) {
  const ByteLanes bytes = __builtin_convertvector(m.v & 1, ByteLanes);
  std::memcpy(p, &bytes, size_t(n));
}
/// True where a byte is not 0; the lanes beyond the first n are false.
WEFT_INLINE Mask load_bytes(const uint8_t* p, int64_t n) {
  ByteLanes bytes = {};
  std::memcpy(&bytes, p, size_t(n));
  return {IntLanes(__builtin_convertvector(bytes, IntLanes) != 0)};
}
WEFT_INLINE Vec select(Mask m, Vec a, Vec b) { return Vec(m.v ? a.v : b.v); }

// The extents and limits below are not std::min and std::max, see kernels.h.
WEFT_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
WEFT_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
WEFT_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
WEFT_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace weft::kernels::WEFT_ISA
