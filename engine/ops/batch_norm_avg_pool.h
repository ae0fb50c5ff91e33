#pragma once

#include <utility>

#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/ops/pool.h"

namespace weft {

/// In training, a batch norm with a residual and a fixed activation, and the average that the shortcut of the
/// next block begins with: y = batch_norm(in.x) with both, in.x and residual: [N, H, W, C], and
/// avg_pool2d(y, kHalves). On a GPU, for even H and W and the activations identity, relu, mish and silu, one
/// op, whose forward reads y no more, and whose backward takes both gradients at once; elsewhere the two of
/// which it is made.
std::pair<Tensor, Tensor> batch_norm_avg_pool(const BatchNormInput& in, const Tensor& residual,
                                              const BatchNormOptions& options = {});

}  // namespace weft
