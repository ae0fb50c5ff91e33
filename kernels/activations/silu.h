#pragma once
#include "weft/kernels/activations/sigmoid.h"
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// silu(x) = x sigmoid(x), also called swish (Elfwing et al., 2017; Ramachandran et al., 2017); slope
/// sigmoid(x) + x sigmoid'(x). Beyond 1000 both are at their limits; x held there keeps 0 * inf out of them.
struct silu {
  static constexpr double param = 0;
  template <class V>
  WEFT_HD static V forward(V x, V) {
    using namespace math;
    return max(V(-1000), x) * sigmoid::forward(x, V(0));
  }
  template <class V>
  WEFT_HD static V derivative(V x, V) {
    using namespace math;
    const V c = clamp(x, V(-1000), V(1000));
    return sigmoid::forward(c, V(0)) + c * sigmoid::derivative(c, V(0));
  }
};

}  // namespace weft::kernels::activations
