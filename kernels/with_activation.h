// The choice of an activation's struct, made once for a whole loop and not at every element.
#pragma once

#include "weft/kernels/activation.h"
#include "weft/kernels/activation_list.h"

namespace weft::kernels {

#define WEFT_CASE(name)  \
  case Activation::name: \
    return f(activations::name{});

/// Calls f with the struct of a fixed activation.
template <class F>
[[gnu::always_inline]] inline void with_activation(Activation act, F&& f) {
  switch (act) {
    WEFT_FOR_EACH_ACTIVATION(WEFT_CASE)
    default:
      return;
  }
}

/// Calls f with the struct of a learned activation.
template <class F>
[[gnu::always_inline]] inline void with_learned_activation(Activation act, F&& f) {
  switch (act) {
    WEFT_FOR_EACH_LEARNED_ACTIVATION(WEFT_CASE)
    default:
      return;
  }
}

#undef WEFT_CASE

}  // namespace weft::kernels
