#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// mish(x) = x tanh(ln(1 + e^x)) (Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019).
/// With u = e^x, n = u (u + 2) and r = 1 / (n + 2): value x n r, slope r (n + 4 x r u (u + 1)), where u (u +
/// 1) is n - u. Above 20 both are exact in float with u held at e^20, so nothing overflows; x held above
/// -1000 keeps 0 * inf out of the limit below.
struct mish {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V held = max(V(-1000), x), u = bounded_exp(min(V(20), held)), n = u * (u + V(2));
    return held * (n * reciprocal(n + V(2)));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-1000), V(20)), u = bounded_exp(c), n = u * (u + V(2));
    const V r = reciprocal(n + V(2));
    return r * (n + V(4) * c * r * (n - u));
  }
};

}  // namespace weft::kernels::activations
