#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// sigmoid(x) = 1 / (1 + e^-x), written with e^-|x|, which never overflows; slope e^-|x| / (1 + e^-|x|)^2.
struct sigmoid {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V e = exp(V(0) - abs(x));
    return select(x > V(0), V(1), e) * reciprocal(V(1) + e);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V e = exp(V(0) - abs(x)), r = reciprocal(V(1) + e);
    return e * r * r;
  }
};

}  // namespace weft::kernels::activations
