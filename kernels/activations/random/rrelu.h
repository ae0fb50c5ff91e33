#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// rrelu(x) = x above 0, else a x; in training a is drawn for each element from U(1/8, 1/3), in evaluation it
/// is their mean, 11/48 (Xu et al., "Empirical Evaluation of Rectified Activations in Convolution Network",
/// 2015); the slope at 0 is the lower one, as in PyTorch.
struct rrelu {
  static constexpr double lower = 1.0 / 8, upper = 1.0 / 3;
  /// What x, and the gradient on its way back, is multiplied by. drawn: uniform in [0, 1).
  template <class V>
  WEFT_HD static V slope(V x, V low, V range, V drawn) {
    using namespace math;
    return select(x > V(0), V(1), low + range * drawn + max(V(0), x));  // max: 0 here, and NaN for a NaN
  }
};

}  // namespace weft::kernels::activations
