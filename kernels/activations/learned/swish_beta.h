#pragma once
#include "weft/kernels/math.h"

namespace weft::kernels::activations {

/// swish_beta(x) = x sigmoid(beta x), beta learned (Ramachandran et al., "Searching for Activation
/// Functions", 2017, the Swish of the paper; with beta = 1 it is silu). Beyond |beta x| = 1000 all is at its
/// limits; x held there keeps 0 * inf out of them.
struct swish_beta {
  static constexpr const char* names[] = {"beta"};
  static constexpr double starts[] = {1};
  /// sigmoid(z) and its slope, neither of which loses digits in the tails.
  template <class V>
  struct Gate {
    V value, slope;
    WEFT_HD explicit Gate(V z) {
      using namespace math;
      const V e = bounded_exp(V(0) - abs(z)), r = reciprocal(V(1) + e);
      value = select(z > V(0), r, e * r);
      slope = e * r * r;
    }
  };
  template <class V>
  WEFT_HD static V forward(V x, const V (&p)[1]) {
    using namespace math;
    const V z = p[0] * x;
    return select(z < V(-1000), V(0), x) * Gate<V>(clamp(z, V(-1000), V(1000))).value;
  }
  template <class V>
  WEFT_HD static V derivative(V x, const V (&p)[1]) {
    using namespace math;
    const V z = clamp(p[0] * x, V(-1000), V(1000));
    const Gate<V> gate(z);
    return gate.value + z * gate.slope;
  }
  template <class V>
  WEFT_HD static void gradients(V x, const V (&p)[1], V (&d)[1]) {
    using namespace math;
    const V z = p[0] * x, held = select(abs(z) > V(1000), V(0), x);
    d[0] = held * (held * Gate<V>(clamp(z, V(-1000), V(1000))).slope);
  }
};

}  // namespace weft::kernels::activations
