#pragma once

#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/ops/pool.h"

namespace weft {

/// In training, a batch norm with a fixed activation, and the maximum of its result over windows:
///   y = max_pool2d(activation(batch_norm(in.x)), pool), in.x: [N, H, W, C].
/// On a GPU, for windows of 3x3 with stride 2 and padding 1 and the activations identity, relu, mish and
/// silu, without that result; elsewhere as the two of which it is made. Of values that only rounding makes
/// equal the largest counts, where max_pool2d() takes the first.
Tensor batch_norm_max_pool(const BatchNormInput& in, const Pool2dOptions& pool = {},
                           const BatchNormOptions& options = {});

}  // namespace weft
