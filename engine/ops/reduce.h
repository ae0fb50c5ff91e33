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
/// log sum e^x, without overflow.
Tensor logsumexp(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
/// Sum of squares of the distances from the mean, over n - correction: by default the estimate of Bessel's
/// correction. NaN where that is no more than 0 and there is nothing else to divide.
Tensor var(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false, double correction = 1);
/// Its square root.
Tensor std(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false, double correction = 1);

/// i64 index of the largest (smallest) element of a dimension, which goes (the first of equal ones; the first
/// NaN, where there is one); not differentiable.
Tensor argmax(const Tensor& x, int dim = -1);
Tensor argmin(const Tensor& x, int dim = -1);

/// Sums of what comes before in a dimension, each element with itself.
Tensor cumsum(const Tensor& x, int dim);

}  // namespace weft
