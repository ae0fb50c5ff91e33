// An activation with its parameters in hand, so that a kernel which fuses one is written once for the fixed
// and the learned.
#pragma once

#include "weft/kernels/host_device.h"

namespace weft::kernels {

template <class A>
constexpr int learned_count() {
  if constexpr (requires { A::starts; })
    return int(sizeof(A::starts) / sizeof(double));
  else
    return 0;
}
/// How many parameters the struct A learns for each channel; 0 for a fixed one.
template <class A>
constexpr int kLearnedCount = learned_count<A>();

/// A fixed activation and its one parameter.
template <class A, class V>
struct InHand {
  A act;
  V param;

  /// Takes them from the arguments of a kernel.
  template <class Args, class Load>
  WEFT_HD void load(const Args& a, Load&&) {
    param = V(a.param);
  }
  WEFT_HD V forward(V z) const { return act.forward(z, param); }
  WEFT_HD V derivative(V z) const { return act.derivative(z, param); }
};

/// A learned one and the parameters of a channel (or of a vector of channels).
template <class A, class V>
requires(kLearnedCount<A> > 0) struct InHand<A, V> {
  V p[kLearnedCount<A>];

  /// load(pointer) gives those of the channel.
  template <class Args, class Load>
  WEFT_HD void load(const Args& a, Load&& load) {
    for (int k = 0; k < kLearnedCount<A>; ++k) p[k] = load(a.parameters[k]);
  }
  WEFT_HD V forward(V z) const { return A::forward(z, p); }
  WEFT_HD V derivative(V z) const { return A::derivative(z, p); }
  WEFT_HD void gradients(V z, V (&d)[kLearnedCount<A>]) const { A::gradients(z, p, d); }
};

}  // namespace weft::kernels
