#pragma once
#include "weft/kernels/activations/tanh.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// penalized_tanh(x) = tanh(x) above 0, else slope tanh(x) (Xu et al., 2016; Eger et al., 2018); the slope at
/// 0 is the lower one.
struct penalized_tanh {
  static constexpr double param = 0.25;
  template <class V>
  WEFT_HD static V forward(V x, V slope) {
    using namespace math;
    const V t = tanh::forward(x, V(0));
    return select(x > V(0), t, slope * t);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V slope) {
    using namespace math;
    const V d = tanh::derivative(x, V(0));
    return select(x > V(0), d, slope * d);
  }
};

}  // namespace weft::kernels::activations
