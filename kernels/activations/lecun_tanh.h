#pragma once
#include "weft/kernels/activations/tanh.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// lecun_tanh(x) = 1.7159 tanh(2 x / 3) (LeCun et al., "Efficient BackProp", 1998).
struct lecun_tanh {
  static constexpr double param = 0;
  static constexpr double height = 1.7159, steepness = 2.0 / 3;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    return V(height) * tanh::forward(V(steepness) * x, V(0));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    return V(height * steepness) * tanh::derivative(V(steepness) * x, V(0));
  }
};

}  // namespace weft::kernels::activations
