#pragma once
#include "weft/kernels/activations/tanh.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// tanhshrink(x) = x - tanh(x); slope tanh(x)^2. Up to 1 the difference would lose its digits: there,
/// Lambert's continued fraction tanh x = x / (1 + w), w = x^2 / (3 + x^2 / (5 + ...)), gives x w / (1 + w).
/// Its ratio n / d = 3 + x^2 / (5 + ...), cut off at 19, is built from the inside.
struct tanhshrink {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-1), V(1)), square = c * c;
    V n(19), d(1);
    for (int k = 17; k >= 3; k -= 2) {
      const V outer = V(k) * n + square * d;
      d = n;
      n = outer;
    }
    const V near = c * square * d / (n + square * d);
    return select(abs(x) < V(1), near, x - tanh::forward(x, V(0)));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    const V t = tanh::forward(x, V(0));
    return t * t;
  }
};

}  // namespace weft::kernels::activations
