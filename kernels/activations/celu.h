#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// celu(x) = x above 0, else alpha (e^(x / alpha) - 1) (Barron, 2017), for alpha > 0; slope e^(x / alpha)
/// there.
struct celu {
  static constexpr double param = 1;
  template <class V>
  WEFT_HD static V forward(V x, V alpha) {
    using namespace math;
    return select(x > V(0), x, alpha * expm1(min(V(0), x) / alpha));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V alpha) {
    using namespace math;
    return select(x > V(0), V(1), exp(min(V(0), x) / alpha));
  }
};

}  // namespace weft::kernels::activations
