#pragma once

#include "weft/engine/ops/batch_norm.h"

namespace weft {

/// In training, two batch norms whose results are added:
///   y = activation(batch_norm(main) + batch_norm(side)),
/// the sum of a block's last batch norm and that of its shortcut, where the activation is a fixed one, that
/// of `options`, as momentum and eps are. On a GPU in one pass over both, without their results; elsewhere as
/// the two of which it is made. x of both: [..., C] of the same shape.
Tensor batch_norm_pair(const BatchNormInput& main, const BatchNormInput& side,
                       const BatchNormOptions& options = {}, const BatchNormOptions& side_options = {});

}  // namespace weft
