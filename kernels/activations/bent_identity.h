#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// bent_identity(x) = (sqrt(x^2 + 1) - 1) / 2 + x = x (1 + q / 2), q = x / (sqrt(x^2 + 1) + 1), which does
/// not cancel; slope 1 + x / (2 sqrt(x^2 + 1)). Beyond 1e15 q is at its limit; x held there keeps its square
/// finite.
struct bent_identity {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-1e15), V(1e15));
    return x * (V(1) + V(0.5) * (c / (sqrt(c * c + V(1)) + V(1))));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-1e15), V(1e15));
    return V(1) + V(0.5) * c / sqrt(c * c + V(1));
  }
};

}  // namespace weft::kernels::activations
