#pragma once
#include "weft/kernels/activations/relu6.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// hardsigmoid(x) = relu6(x + 3) / 6, PyTorch's form (after Courbariaux et al., 2015); slope 0 at -3 and at
/// 3, as there.
struct hardsigmoid {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    return relu6::forward(x + V(3), V(0)) * V(1.0 / 6);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    return select((x > V(-3)) & (x < V(3)), V(1.0 / 6), zero_or_nan(x));
  }
};

}  // namespace weft::kernels::activations
