#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// hard_elish(x) = x h(x) from 0 on, else (e^x - 1) h(x), with h = clamp((x + 1) / 2, 0, 1) in place of
/// elish's sigmoid (Basirat and Roth, 2018); h' = 0 at -1 and at 1.
struct hard_elish {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    const V h = clamp(V(0.5) * x + V(0.5), V(0), V(1));
    return select(x >= V(0), x * h, expm1(min(V(0), x)) * h);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V h = clamp(V(0.5) * x + V(0.5), V(0), V(1)), c = min(V(0), x);
    const V dh = select((x > V(-1)) & (x < V(1)), V(0.5), V(0));
    return select(x >= V(0), h + min(V(1), x) * dh, exp(c) * h + expm1(c) * dh);
  }
};

}  // namespace weft::kernels::activations
