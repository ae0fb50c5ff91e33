#pragma once
#include "weft/kernels/activations/sigmoid.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// soft_clipping(x) = ln((1 + e^(alpha x)) / (1 + e^(alpha (x - 1)))) / alpha (Klimek and Perelstein, 2018),
/// for alpha > 0: clamp(x, 0, 1) and what two softplus add to it. Its slope, sigmoid(alpha x) - sigmoid(alpha
/// (x - 1)), is the same on both sides of 1/2, and taken where it does not cancel.
struct soft_clipping {
  static constexpr double param = 0.5;
  template <class V>
  WEFT_HD static V forward(V x, V alpha) {
    using namespace math;
    const V rest = log1p(exp(V(0) - abs(alpha * x))) - log1p(exp(V(0) - abs(alpha * (x - V(1)))));
    return clamp(x, V(0), V(1)) + rest / alpha;
  }
  template <class V>
  WEFT_HD static V derivative(V x, V alpha) {
    using namespace math;
    const V m = abs(x - V(0.5));
    return sigmoid::forward(alpha * (V(0.5) - m), V(0)) - sigmoid::forward(alpha * (V(-0.5) - m), V(0));
  }
};

}  // namespace weft::kernels::activations
