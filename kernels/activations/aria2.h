#pragma once
#include "weft/kernels/activations/logsigmoid.h"
#include "weft/kernels/activations/sigmoid.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// aria2(x) = (1 + e^-x)^-alpha: Aria-2 with beta = 1 (Patel et al., "Richards' curve", 2018), as e^(alpha ln
/// sigmoid(x)); slope alpha aria2(x) sigmoid(-x).
struct aria2 {
  static constexpr double param = 1.5;
  template <class V>
  WEFT_HD static V forward(V x, V alpha) {
    using namespace math;
    return exp(alpha * logsigmoid::forward(x, V(0)));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V alpha) {
    using namespace math;
    return alpha * forward(x, alpha) * sigmoid::forward(V(0) - x, V(0));
  }
};

}  // namespace weft::kernels::activations
