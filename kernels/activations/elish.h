#pragma once
#include "weft/kernels/activations/sigmoid.h"
#include "weft/kernels/activations/silu.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// elish(x) = x s(x) from 0 on, else (e^x - 1) s(x), with s = sigmoid (Basirat and Roth, 2018); slope below
/// 0: e^x s + (e^x - 1) s'.
struct elish {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V c = min(V(0), x);
    return select(x >= V(0), silu::forward(x, V(0)), expm1(c) * sigmoid::forward(c, V(0)));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V c = min(V(0), x);
    const V below = exp(c) * sigmoid::forward(c, V(0)) + expm1(c) * sigmoid::derivative(c, V(0));
    return select(x >= V(0), silu::derivative(x, V(0)), below);
  }
};

}  // namespace weft::kernels::activations
