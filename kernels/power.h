// Powers with one exponent for all elements.
#pragma once

#include <cmath>

#include "weft/kernels/host_device.h"

namespace weft::kernels {

/// x^exponent. The exponents that occur most are products, quotients and roots; so -inf^0.5 is NaN and
/// -0^0.5 is -0, as in PyTorch, and unlike std::pow. 1 to any power and all to the power of 0 are 1, a
/// negative number to one that is not whole NaN.
template <class T>
WEFT_HD T power(T x, T exponent) {
  if (exponent == T(0)) return T(1);
  if (exponent == T(1)) return x;
  if (exponent == T(2)) return x * x;
  if (exponent == T(3)) return x * x * x;
  if (exponent == T(0.5)) return std::sqrt(x);
  if (exponent == T(-0.5)) return T(1) / std::sqrt(x);
  if (exponent == T(-1)) return T(1) / x;
  if (exponent == T(-2)) return (T(1) / x) * (T(1) / x);  // x * x may leave the range before the result does
  return std::pow(x, exponent);
}

}  // namespace weft::kernels
