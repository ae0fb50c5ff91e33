// The activations on vectors, and the choice of one for a whole loop that fuses it.
#pragma once

#include "weft/kernels/activation_in_hand.h"
#include "weft/kernels/cpu/isa/vec_math.h"
#include "weft/kernels/with_activation.h"

namespace weft::kernels::WEFT_ISA {

#ifdef WEFT_LOOK_UP_FUSED_ACTIVATIONS
/// Any fixed one, looked up for each vector: in the baseline, and in builds with sanitizers, which would take
/// minutes for loops of each.
struct AnyActivation {};
#endif

/// Calls f with the struct of a fixed activation, which f fuses into its loops.
template <class F>
WEFT_INLINE void with_fused_activation([[maybe_unused]] Activation act, F f) {
#ifdef WEFT_LOOK_UP_FUSED_ACTIVATIONS
  f(AnyActivation{});
#else
  with_activation(act, f);
#endif
}

}  // namespace weft::kernels::WEFT_ISA

#ifdef WEFT_LOOK_UP_FUSED_ACTIVATIONS
template <>
struct weft::kernels::InHand<weft::kernels::WEFT_ISA::AnyActivation, weft::kernels::WEFT_ISA::Vec> {
  using Vec = WEFT_ISA::Vec;
  Activation act;
  Vec param;

  template <class Args, class Load>
  void load(const Args& a, Load&&) {
    act = a.activation;
    param = Vec(a.param);
  }
  Vec forward(Vec z) const {
    with_activation(act, [&]<class A>(A) { z = A::forward(z, param); });
    return z;
  }
  Vec derivative(Vec z) const {
    with_activation(act, [&]<class A>(A) { z = A::derivative(z, param); });
    return z;
  }
};
#endif
