#pragma once

#include <optional>
#include <utility>

#include "weft/engine/ops/pool.h"
#include "weft/kernels/activation.h"

namespace weft {

/// y = activation(a + b), and avg_pool2d(y, kHalves), which the shortcut of the next block begins with: a and
/// b [N, H, W, C] of the same shape. On a GPU one op, whose forward reads y no more, and whose backward takes
/// both gradients at once; elsewhere the two of which it is made.
std::pair<Tensor, Tensor> add_activation_pool(const Tensor& a, const Tensor& b, Activation act,
                                              std::optional<double> param = {});

}  // namespace weft
