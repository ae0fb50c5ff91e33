#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// What stochastic_depth drops together.
enum class StochasticDepthMode : uint8_t {
  batch,  ///< all of x or nothing
  row,    ///< each x[i] for itself
};

/// In training: zeroes x, or each of its rows x[i], with probability p and scales what stays by 1 / (1 - p);
/// otherwise x (Huang et al., 2016, arXiv 1603.09382, in the form of torchvision.ops.stochastic_depth). For
/// the main branch of a residual block. Draws one stream of the generator.
Tensor stochastic_depth(const Tensor& x, double p, StochasticDepthMode mode, bool training = true,
                        Generator& generator = default_generator());

}  // namespace weft
