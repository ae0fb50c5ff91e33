#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// elu(x) = x above 0, else alpha (e^x - 1) (Clevert et al., 2015); the slope at 0 is alpha, as in PyTorch.
struct elu {
  static constexpr double param = 1;
  template <class V>
  WEFT_HD static V forward(V x, V alpha) {
    using namespace math;
    return select(x > V(0), x, alpha * expm1(min(V(0), x)));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V alpha) {
    using namespace math;
    return select(x > V(0), V(1), alpha * exp(min(V(0), x)));
  }
};

}  // namespace weft::kernels::activations
