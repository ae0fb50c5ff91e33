// The generated list of activations, and the choice of one for a whole loop.
#pragma once

#include "weft/kernels/activation.h"
#include "weft/kernels/activation_list.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {

/// Calls f with the struct of a fixed activation.
template <class F>
WEFT_INLINE void with_activation(Activation act, F f) {
  switch (act) {
#define WEFT_CASE(name)     \
  case Activation::name:    \
    f(activations::name{}); \
    return;
    WEFT_FOR_EACH_ACTIVATION(WEFT_CASE)
#undef WEFT_CASE
    default:
      return;
  }
}

/// Calls f with the struct of a learned activation.
template <class F>
WEFT_INLINE void with_learned_activation(Activation act, F f) {
  switch (act) {
#define WEFT_CASE(name)     \
  case Activation::name:    \
    f(activations::name{}); \
    return;
    WEFT_FOR_EACH_LEARNED_ACTIVATION(WEFT_CASE)
#undef WEFT_CASE
    default:
      return;
  }
}

}  // namespace weft::kernels::WEFT_ISA
