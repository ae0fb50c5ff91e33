#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// Mish(x) = x tanh(ln(1 + e^x)) (Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019).
/// With u = e^x and n = u (u + 2): value x n / (n + 2), slope n / (n + 2) + 4 x u (u + 1) / (n + 2)^2.
/// Above 20 both are exact in float with u held at e^20, so nothing overflows; x held above -1000 keeps
/// 0 * inf out of the limit below.
struct mish {
  static constexpr double param = 0;
  template <class V>
  static V forward(V x, V) {
    using namespace math;
    const V u = exp(min(V(20), x)), n = u * (u + V(2));
    return max(V(-1000), x) * (n / (n + V(2)));
  }
  template <class V>
  static V derivative(V x, V) {
    using namespace math;
    const V c = min(V(20), max(V(-1000), x)), u = exp(c), n = u * (u + V(2)), r = V(1) / (n + V(2));
    return n * r + V(4) * c * (u * r) * ((u + V(1)) * r);
  }
};

}  // namespace weft::kernels::activations
