#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// selu(x) = scale x above 0, else scale alpha (e^x - 1) (Klambauer et al., 2017); the slope at 0 is the
/// lower one, as in PyTorch.
struct selu {
  static constexpr double param = 0;
  static constexpr double alpha = 1.6732632423543772848170429916717,
                          scale = 1.0507009873554804934193349852946;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    return select(x > V(0), V(scale) * x, V(scale * alpha) * expm1(min(V(0), x)));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    return select(x > V(0), V(scale), V(scale * alpha) * exp(min(V(0), x)));
  }
};

}  // namespace weft::kernels::activations
