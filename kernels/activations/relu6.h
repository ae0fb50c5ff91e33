#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// relu6(x) = min(max(x, 0), 6) (Krizhevsky, 2010); slope 0 at 0 and at 6, as in PyTorch.
struct relu6 {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    return clamp(x, V(0), V(6));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    return select((x > V(0)) & (x < V(6)), V(1), zero_or_nan(x));
  }
};

}  // namespace weft::kernels::activations
