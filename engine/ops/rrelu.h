#pragma once

#include "weft/engine/tensor.h"
#include "weft/kernels/activations/random/rrelu.h"

namespace weft {

/// Randomised leaky ReLU (Xu et al., 2015): x above 0, else a x. In training a is drawn for each element from
/// U(lower, upper), one Philox stream of `generator`, which backward draws again instead of keeping it.
/// Otherwise a is (lower + upper) / 2. As torch.nn.functional.rrelu.
Tensor rrelu(const Tensor& x, double lower = kernels::activations::rrelu::lower,
             double upper = kernels::activations::rrelu::upper, bool training = false,
             Generator& generator = default_generator());

}  // namespace weft
