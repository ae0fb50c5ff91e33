#pragma once
#include "weft/kernels/activations/hardsigmoid.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// hardswish(x) = x relu6(x + 3) / 6 (Howard et al., 2019); slope x / 3 + 1/2 between -3 and 3. x held at -3
/// keeps 0 * inf out of the limit below.
struct hardswish {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    return max(V(-3), x) * hardsigmoid::forward(x, V(0));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    return select((x > V(-3)) & (x < V(3)), x * V(1.0 / 3) + V(0.5), select(x >= V(3), V(1), zero_or_nan(x)));
  }
};

}  // namespace weft::kernels::activations
