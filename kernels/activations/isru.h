#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// isru(x) = x / sqrt(1 + alpha x^2) (Carlile et al., 2017), for alpha > 0; slope 1 / sqrt(1 + alpha x^2)^3.
/// x held at 1e15 keeps inf / inf out of the limits.
struct isru {
  static constexpr double param = 1;
  template <class V>
  WEFT_HD static V forward(V x, V alpha) {
    using namespace math;
    const V c = clamp(x, V(-1e15), V(1e15));
    return c / sqrt(V(1) + alpha * c * c);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V alpha) {
    using namespace math;
    const V r = V(1) / sqrt(V(1) + alpha * x * x);
    return r * r * r;
  }
};

}  // namespace weft::kernels::activations
