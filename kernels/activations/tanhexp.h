#pragma once
#include "weft/kernels/activations/tanh.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// tanhexp(x) = x tanh(e^x) (Liu and Di, 2020); with u = e^x the slope is tanh(u) + x u tanh'(u). Above 20
/// both are at their limits with u held at e^20; x held above -1000 keeps 0 * inf out of the limit below.
struct tanhexp {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V held = max(V(-1000), x);
    return held * tanh::forward(bounded_exp(min(V(20), held)), V(0));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-1000), V(20)), u = bounded_exp(c);
    return tanh::forward(u, V(0)) + c * u * tanh::derivative(u, V(0));
  }
};

}  // namespace weft::kernels::activations
