#pragma once
#include "weft/kernels/activations/tanh.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// weighted_tanh(x) = tanh(weight x), as in the comparison of Misra, "Mish", 2019.
struct weighted_tanh {
  static constexpr double param = 1.7145;
  template <class V>
  WEFT_HD static V forward(V x, V weight) {
    return tanh::forward(weight * x, V(0));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V weight) {
    return weight * tanh::derivative(weight * x, V(0));
  }
};

}  // namespace weft::kernels::activations
