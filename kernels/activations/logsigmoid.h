#pragma once
#include "weft/kernels/activations/sigmoid.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// logsigmoid(x) = ln(sigmoid(x)) = min(x, 0) - ln(1 + e^-|x|), which never overflows; slope sigmoid(-x).
struct logsigmoid {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    return min(V(0), x) - log1p(exp(V(0) - abs(x)));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    return sigmoid::forward(V(0) - x, V(0));
  }
};

}  // namespace weft::kernels::activations
