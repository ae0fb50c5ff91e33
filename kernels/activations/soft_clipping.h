#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// soft_clipping(x) = ln((1 + e^(alpha x)) / (1 + e^(alpha (x - 1)))) / alpha (Klimek and Perelstein, 2018),
/// for 0 < alpha <= 170. With e = e^(alpha x) and p = 1 - e^-alpha it is ln(1 + u) / alpha, u = p e / (1 +
/// e^-alpha e), and its slope is u / (1 + e), for x up to 1/2; about that point the value is odd and the
/// slope even.
struct soft_clipping {
  static constexpr double param = 0.5;
  template <class V>
  WEFT_HD static V forward(V x, V alpha) {
    using namespace math;
    const V e = exp(alpha * min(V(1) - x, x)), p = V(0) - expm1(V(0) - alpha);
    const V half = log1p(p * e / (V(1) + exp(V(0) - alpha) * e)) / alpha;
    return select(x > V(0.5), V(1) - half, half);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V alpha) {
    using namespace math;
    const V e = exp(alpha * min(V(1) - x, x)), p = V(0) - expm1(V(0) - alpha);
    return p * e / ((V(1) + exp(V(0) - alpha) * e) * (V(1) + e));
  }
};

}  // namespace weft::kernels::activations
