#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// softsign(x) = x / (1 + |x|) (Turian et al., 2009); slope 1 / (1 + |x|)^2. x held at 1e30 keeps inf / inf
/// out of the limits.
struct softsign {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-1e30), V(1e30));
    return c / (V(1) + abs(c));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V r = V(1) / (V(1) + abs(x));
    return r * r;
  }
};

}  // namespace weft::kernels::activations
