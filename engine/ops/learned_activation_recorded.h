// Not part of the public API: the backward of learned_activation() for a backward that is recorded.
#pragma once

#include "weft/engine/ops/learned_activation.h"
#include "weft/engine/tape.h"

namespace weft::ops {

/// Sets the gradients of x (input 0) and of the parameters in plain ops, which have gradients of their own.
void learned_activation_recorded(BackwardContext& c, Activation act, const Tensor& x,
                                 const std::vector<Tensor>& parameters);

}  // namespace weft::ops
