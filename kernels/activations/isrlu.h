#pragma once
#include "weft/kernels/activations/isru.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// isrlu(x) = x from 0 on, else x / sqrt(1 + alpha x^2) (Carlile et al., 2017), for alpha > 0.
struct isrlu {
  static constexpr double param = 1;
  template <class V>
  WEFT_HD static V forward(V x, V alpha) {
    using namespace math;
    return select(x >= V(0), x, isru::forward(min(V(0), x), alpha));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V alpha) {
    using namespace math;
    return select(x >= V(0), V(1), isru::derivative(min(V(0), x), alpha));
  }
};

}  // namespace weft::kernels::activations
