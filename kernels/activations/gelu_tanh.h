#pragma once
#include "weft/kernels/activations/sigmoid.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// gelu_tanh(x) = x (1 + tanh(u)) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3): Hendrycks and Gimpel's
/// approximation of GELU. As (1 + tanh(u)) / 2 = sigmoid(2 u), it is x sigmoid(v), v = 2 u, which keeps its
/// digits for negative x. Beyond 100 value and slope are at their limits; x held there keeps 0 * inf out of
/// them.
struct gelu_tanh {
  static constexpr double param = 0;
  static constexpr double two_root_two_over_pi = 1.5957691216057308, cubic = 0.044715;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-100), V(100));
    const V v = V(two_root_two_over_pi) * (c + V(cubic) * c * c * c);
    return max(V(-100), x) * sigmoid::forward(v, V(0));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-100), V(100));
    const V v = V(two_root_two_over_pi) * (c + V(cubic) * c * c * c);
    const V dv = V(two_root_two_over_pi) * (V(1) + V(3 * cubic) * c * c);
    return sigmoid::forward(v, V(0)) + c * dv * sigmoid::derivative(v, V(0));
  }
};

}  // namespace weft::kernels::activations
