// 2^x and the cube root for the formulas of updates, written so that a compiler makes vectors of them: no
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

/// What vector_exp2 holds its operand between in float. A member of the formula and no constant: of limits
/// that the compiler knows it makes cases, which cost more than all the rest.
template <class T>
struct exp2_range {
  T lowest = -126, highest = 126;
};

/// 2^x. In float x is held in the range, and the relative error is at most 2.5e-7; NaN stays NaN.
template <class T>
WEFT_HD T vector_exp2(T x, const exp2_range<T>& range) {
  if constexpr (std::is_same_v<T, float>) {
    const float low = x < range.lowest ? range.lowest : x, held = low > range.highest ? range.highest : low;
    // n is rounded by a number so large that its last place is 1; its bits are then those of the exponent.
    const float shifted = held + 12582912.0f, n = shifted - 12582912.0f;
    // 2^r for |r| <= 1/2 within 1.1e-7, in an order of few steps that wait for each other.
    const float r = held - n, square = r * r;
    const float series = (1 + r * 0.69314700f) + square * ((0.24022242f + r * 0.0555073358f) +
                                                           square * (0.00967151206f + r * 0.00132647494f));
    const uint32_t power = same_bits<uint32_t>(shifted) << 23;
    const float result = same_bits<float>(same_bits<uint32_t>(series) + power);
    return result + (held - held);  // the bits of a NaN make no exponent
  } else {
    return std::exp2(x);
  }
}

/// The cube root where x >= 0 or x is NaN. In float the relative error is at most 1.5e-7 from 2^-126 on; what
/// is below that gives something below 2^-41.
template <class T>
WEFT_HD T vector_cbrt(T x) {
  if constexpr (std::is_same_v<T, float>) {
    // The inverse root z first, from exponent and fraction within 3.5 %: x z^3 = 1 - e, |e| <= 0.103. Then
    // the root is x z^2 (1 - e)^(-2/3), a series within 2e-8 there. No division, and no step of Newton's
    // method that waits for the one before.
    const float z = same_bits<float>(0x54a1f400 - int32_t(float(same_bits<int32_t>(x)) * (1.0f / 3)));
    const float y = x * z * z, e = 1 - y * z, square = e * e;
    const float series = (0.666666687f + e * 0.555535138f) +
                         square * ((0.493796468f + e * 0.458753049f) + square * 0.429208517f);
    const float root = y + (y * e) * series;
    return x < INFINITY ? root : x;  // infinity and NaN are their own
  } else {
    return std::cbrt(x);
  }
}

}  // namespace weft::kernels::updates
