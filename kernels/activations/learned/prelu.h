#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// prelu(x) = x above 0, else weight * x, weight learned (He et al., "Delving Deep into Rectifiers", 2015);
/// the slope at 0 is the weight, as in PyTorch.
struct prelu {
  static constexpr const char* names[] = {"weight"};
  static constexpr double starts[] = {0.25};
  template <class V>
  WEFT_HD static V forward(V x, const V (&p)[1]) {
    using namespace math;
    return select(x > V(0), x, p[0] * x);
  }
  template <class V>
  WEFT_HD static V derivative(V x, const V (&p)[1]) {
    using namespace math;
    return select(x > V(0), V(1), p[0] + max(V(0), x));  // max: 0 here, and NaN for a NaN
  }
  template <class V>
  WEFT_HD static void gradients(V x, const V (&)[1], V (&d)[1]) {
    using namespace math;
    d[0] = min(V(0), x);
  }
};

}  // namespace weft::kernels::activations
