#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// sine_relu(x) = x above 0, else epsilon (sin x - cos x) (Rodrigues, 2018); slope epsilon (cos x + sin x)
/// there. At 0 the value is -epsilon and the slope epsilon; at minus infinity there is no limit.
struct sine_relu {
  static constexpr double param = 0.001;
  template <class V>
  WEFT_HD static V forward(V x, V epsilon) {
    using namespace math;
    const V c = min(V(0), x);
    return select(x > V(0), x, epsilon * (sin(c) - cos(c)));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V epsilon) {
    using namespace math;
    const V c = min(V(0), x);
    return select(x > V(0), V(1), epsilon * (cos(c) + sin(c)));
  }
};

}  // namespace weft::kernels::activations
