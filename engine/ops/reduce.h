// Reductions. `dims` are the dimensions to reduce, negative ones counted from the end; none means all of
// them.
#pragma once

#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

Tensor sum(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
Tensor mean(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
/// Largest element; the gradient is shared evenly among equal ones, as PyTorch's amax and amin do.
Tensor amax(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
Tensor amin(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
/// i64 index of the largest element of the last dimension (the first of equal ones; the first NaN, where
/// there is one); not differentiable.
Tensor argmax(const Tensor& x);

}  // namespace weft
