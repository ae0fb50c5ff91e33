#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// relu(x) = max(x, 0) (Nair and Hinton, 2010); slope 0 at 0, as in PyTorch.
struct relu {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    return max(V(0), x);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    return select(x > V(0), V(1), max(V(0), x));  // max: 0 here, and NaN for a NaN
  }
};

}  // namespace weft::kernels::activations
