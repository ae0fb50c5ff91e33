#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// srelu(x) = t_r + a_r (x - t_r) from t_r on, t_l + a_l (x - t_l) up to t_l, x between, all four learned
/// (Jin et al., "Deep Learning with S-shaped Rectified Linear Activation Units", 2015). It starts as a leaky
/// ReLU, as there: t_l = 0, a_r = 1; a_l and t_r, which the paper leaves open, start at 0.2 and 1. Where the
/// thresholds have crossed, the right one goes first.
struct srelu {
  static constexpr const char* names[] = {"t_r", "a_r", "t_l", "a_l"};
  static constexpr double starts[] = {1, 1, 0, 0.2};
  template <class V>
  WEFT_HD static V forward(V x, const V (&p)[4]) {
    using namespace math;
    return select(x >= p[0], p[0] + p[1] * (x - p[0]), select(x <= p[2], p[2] + p[3] * (x - p[2]), x));
  }
  template <class V>
  WEFT_HD static V derivative(V x, const V (&p)[4]) {
    using namespace math;
    return select(x >= p[0], p[1], select(x <= p[2], p[3], V(1) + zero_or_nan(x)));
  }
  template <class V>
  WEFT_HD static void gradients(V x, const V (&p)[4], V (&d)[4]) {
    using namespace math;
    const V none = zero_or_nan(x);
    d[0] = select(x >= p[0], V(1) - p[1], none);
    d[1] = select(x >= p[0], x - p[0], none);
    d[2] = select(x >= p[0], none, select(x <= p[2], V(1) - p[3], none));
    d[3] = select(x >= p[0], none, select(x <= p[2], x - p[2], none));
  }
};

}  // namespace weft::kernels::activations
