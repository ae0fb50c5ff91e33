#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// leaky_relu(x) = x above 0, else slope * x (Maas et al., 2013); the slope at 0 is the lower one, as in
/// PyTorch.
struct leaky_relu {
  static constexpr double param = 0.01;
  template <class V>
  WEFT_HD static V forward(V x, V slope) {
    using namespace math;
    return select(x > V(0), x, slope * x);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V slope) {
    using namespace math;
    return select(x > V(0), V(1), slope + max(V(0), x));  // max: 0 here, and NaN for a NaN
  }
};

}  // namespace weft::kernels::activations
