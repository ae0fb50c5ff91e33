// Scalar side of the generic maths: the functions that activation structs call, for float and double. The
// SIMD types bring the same names for theirs, found by argument-dependent lookup.
#pragma once

#include <cmath>
#include <type_traits>

#include "weft/kernels/host_device.h"

namespace weft::kernels::math {

template <class T>
concept Scalar = std::is_floating_point_v<T>;

using std::abs, std::cos, std::erf, std::exp, std::expm1, std::log1p, std::sin, std::sqrt, std::tanh;

constexpr float kLog2E = 1.44269504f;

/// e^x where |x| <= 1000 or x is NaN; SIMD needs fewer instructions for these. On the GPU in float two
/// instructions: the relative error is at most 2^-22 (2 units in the last place of ex2.approx) and 1.23 *
/// 2^-24 |x| (roundings of log2(e) and of the product), and what is below 2^-126 becomes 0.
template <Scalar T>
WEFT_HD T bounded_exp(T x) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, float>) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * kLog2E));
    return y;
  }
#endif
  return std::exp(x);
}
/// 1 / x where 1 <= x <= 2^100 or x is NaN; SIMD takes an estimate and improves it. On the GPU in float one
/// instruction with an error of at most 1 unit in the last place.
template <Scalar T>
WEFT_HD T reciprocal(T x) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, float>) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
#endif
  return T(1) / x;
}
/// The normal distribution function (1 + erf(x / sqrt(2))) / 2, by erfc, which does not cancel below 0, and
/// its density e^(-x^2 / 2) / sqrt(2 pi).
template <Scalar T>
WEFT_HD T normal_cdf(T x) {
  return T(0.5) * std::erfc(T(-0.7071067811865476) * x);
}
template <Scalar T>
WEFT_HD T normal_density(T x) {
  return T(0.3989422804014327) * std::exp(T(-0.5) * x * x);
}
/// As SIMD does it: the second operand where either is NaN.
template <Scalar T>
WEFT_HD T max(T a, T b) {
  return a > b ? a : b;
}
template <Scalar T>
WEFT_HD T min(T a, T b) {
  return a < b ? a : b;
}
template <Scalar T>
WEFT_HD T select(bool c, T a, T b) {
  return c ? a : b;
}

// Of scalars and vectors.

/// x held between low and high; NaN where x is NaN.
template <class V>
WEFT_HD V clamp(V x, V low, V high) {
  return min(high, max(low, x));
}
#ifdef __CUDA_ARCH__
WEFT_HD inline float clamp(float x, float low, float high) {  // two instructions, where comparisons take four
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(low));
  asm("min.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(high));
  return x;
}
#endif
/// 0, and NaN where x is NaN: for flat parts.
template <class V>
WEFT_HD V zero_or_nan(V x) {
  const V held = clamp(x, V(-1), V(1));
  return held - held;
}

}  // namespace weft::kernels::math
