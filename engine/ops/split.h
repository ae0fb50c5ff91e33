// Ops that cut tensors up and put them together, made of narrow() and concat().
#pragma once

#include <vector>

#include "weft/engine/ops/shape.h"

namespace weft {

/// x cut along `dim` into pieces of `size`, the last one smaller where that doesn't divide it.
std::vector<Tensor> split(const Tensor& x, int64_t size, int dim = 0);
/// Tensors of one shape joined along a new dimension `dim`.
Tensor stack(const std::vector<Tensor>& tensors, int dim = 0);
/// x with zeros around it: `padding` holds what goes before and after the last dimension, then the last but
/// one, ..., as torch.nn.functional.pad takes it.
Tensor pad(const Tensor& x, const std::vector<int64_t>& padding);

}  // namespace weft
