#pragma once
#include "weft/kernels/activations/silu.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// eswish(x) = beta x sigmoid(x) (Alcaide, "E-swish", 2018).
struct eswish {
  static constexpr double param = 1.75;
  template <class V>
  WEFT_HD static V forward(V x, V beta) {
    return beta * silu::forward(x, V(0));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V beta) {
    return beta * silu::derivative(x, V(0));
  }
};

}  // namespace weft::kernels::activations
