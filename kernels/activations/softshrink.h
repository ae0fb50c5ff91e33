#pragma once
#include "weft/kernels/activations/hardtanh.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// softshrink(x) = x - lambda above lambda, x + lambda below -lambda, else 0 (Donoho and Johnstone, 1994);
/// slope 0 at both, as in PyTorch.
struct softshrink {
  static constexpr double param = 0.5;
  template <class V>
  WEFT_HD static V forward(V x, V lambda) {
    return x - hardtanh::forward(x, lambda);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V lambda) {
    using namespace math;
    return select(abs(x) > lambda, V(1), zero_or_nan(x));
  }
};

}  // namespace weft::kernels::activations
