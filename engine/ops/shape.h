// Ops that only move data.
#pragma once

#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

/// The same elements in another shape, sharing memory; one size may be -1 and follows from the others. Takes
/// a Shape as well: reshape(x, y.shape()).
Tensor reshape(const Tensor& x, const std::vector<int64_t>& sizes);
/// All dimensions from `start` on become one: flatten(x [N, H, W, C]) is [N, H W C].
Tensor flatten(const Tensor& x, int start = 1);
/// A copy with the dimensions in another order: out.size(i) = x.size(order[i]).
Tensor permute(const Tensor& x, const std::vector<int>& order);
/// The part of x from `start` to `start + length` in one dimension, as a copy.
Tensor narrow(const Tensor& x, int dim, int64_t start, int64_t length);
/// Joined along `dim`; all other sizes must agree.
Tensor concat(const std::vector<Tensor>& tensors, int dim = 0);

}  // namespace weft
