#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// hardtanh(x) = x between -limit and limit, else the nearer one of them (Collobert, 2004); slope 0 at both,
/// as in PyTorch.
struct hardtanh {
  static constexpr double param = 1;
  template <class V>
  WEFT_HD static V forward(V x, V limit) {
    using namespace math;
    return clamp(x, V(0) - limit, limit);
  }
  template <class V>
  WEFT_HD static V derivative(V x, V limit) {
    using namespace math;
    return select((x > V(0) - limit) & (x < limit), V(1), zero_or_nan(x));
  }
};

}  // namespace weft::kernels::activations
