#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// hard_mish(x) = x/2 min(2, max(0, x + 2)) (Misra, "H-Mish", 2021); slope x + 1 between -2 and 0. x held at
/// -2 keeps 0 * inf out of the limit below.
struct hard_mish {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    return V(0.5) * max(V(-2), x) * clamp(x + V(2), V(0), V(2));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    return select((x > V(-2)) & (x < V(0)), x + V(1), select(x >= V(0), V(1), zero_or_nan(x)));
  }
};

}  // namespace weft::kernels::activations
