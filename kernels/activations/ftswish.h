#pragma once
#include "weft/kernels/activations/silu.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// ftswish(x) = x sigmoid(x) + t from 0 on, else t: the flattened threshold Swish (Chieng et al., 2018); the
/// slope at 0 is the upper one, 1/2.
struct ftswish {
  static constexpr double param = -0.2;
  template <class V>
  WEFT_HD static V forward(V x, V t) {
    using namespace math;
    return silu::forward(max(V(0), x), V(0)) + t;
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    return select(x >= V(0), silu::derivative(x, V(0)), zero_or_nan(x));
  }
};

}  // namespace weft::kernels::activations
