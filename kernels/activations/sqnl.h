#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// sqnl(x) = x - x |x| / 4 between -2 and 2, beyond -1 and 1: the square non-linearity (Wuraola and Patel,
/// 2018); slope 1 - |x| / 2.
struct sqnl {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-2), V(2));
    return c - V(0.25) * c * abs(c);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    return V(1) - V(0.5) * abs(clamp(x, V(-2), V(2)));
  }
};

}  // namespace weft::kernels::activations
