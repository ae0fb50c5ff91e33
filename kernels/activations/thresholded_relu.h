#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// thresholded_relu(x) = x above theta, else 0 (Konda et al., "Zero-bias autoencoders", 2014), with the slope
/// 0 at theta.
struct thresholded_relu {
  static constexpr double param = 1;
  template <class V>
  WEFT_HD static V forward(V x, V theta) {
    using namespace math;
    return select(x > theta, x, zero_or_nan(x));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V theta) {
    using namespace math;
    return select(x > theta, V(1), zero_or_nan(x));
  }
};

}  // namespace weft::kernels::activations
