// exp and the cube root for the formulas of updates, written so that a compiler makes vectors of them: no
// call, no branch. In double they are the standard library's.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "weft/kernels/host_device.h"

namespace weft::kernels::updates {

/// The same bits as another type.
template <class To, class From>
WEFT_HD To same_bits(From x) {
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}

/// e^x. In float x is held between -87 and 88, and the relative error is at most 2.5e-7; NaN stays NaN.
template <class T>
WEFT_HD T vector_exp(T x) {
  if constexpr (std::is_same_v<T, float>) {
    const float held = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    // n is rounded by a number so large that its last place is 1; its bits are then those of the exponent.
    const float shifted = held * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    const float r = (held - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
    const float series =
        1 + r * (1 + r * (0.5f + r * (1.66666667e-1f +
                                      r * (4.16666667e-2f + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
    const auto power = same_bits<int32_t>(shifted) << 23;
    return same_bits<float>(same_bits<int32_t>(series) + power);
  } else {
    return std::exp(x);
  }
}

/// The cube root where x >= 0 or x is NaN. In float the relative error is at most 2.5e-7 from 2^-126 on; what
/// is below that gives something below 2^-41.
template <class T>
WEFT_HD T vector_cbrt(T x) {
  if constexpr (std::is_same_v<T, float>) {
    // The inverse root first, which needs no division: from its exponent and fraction within 4 %, and each
    // step of Newton's method squares that.
    float z = same_bits<float>(0x54a2fa8c - int32_t(float(same_bits<int32_t>(x)) * (1.0f / 3)));
    for (int i = 0; i < 2; ++i) z *= (1.0f / 3) * (4 - x * z * z * z);
    float y = x * z * z;
    y -= (1.0f / 3) * z * z * (y * y * y - x);
    return x > 0 && x < INFINITY ? y : x;  // 0, NaN and infinity are their own
  } else {
    return std::cbrt(x);
  }
}

}  // namespace weft::kernels::updates
