#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// gelu(x) = x Phi(x), Phi(x) = (1 + erf(x / sqrt(2))) / 2 the normal distribution function (Hendrycks and
/// Gimpel, 2016); slope Phi(x) + x phi(x), phi(x) = e^(-x^2 / 2) / sqrt(2 pi). Beyond 100 both are at their
/// limits; x held there keeps 0 * inf out of them.
struct gelu {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    return max(V(-100), x) * normal_cdf(x);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-100), V(100));
    return normal_cdf(c) + c * normal_density(c);
  }
};

}  // namespace weft::kernels::activations
