// What comes first along a dimension. Of equal elements the first comes first, in either direction; a NaN
// counts as more than all numbers, as in PyTorch. The values are gathered by the indices, and so are their
// gradients.
#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// Values, and the i64 indices in the dimension from which they came.
struct Sorted {
  Tensor values, indices;
};

Sorted sort(const Tensor& x, int dim = -1, bool descending = false);
/// The indices alone.
Tensor argsort(const Tensor& x, int dim = -1, bool descending = false);
/// The k largest (or smallest), the most extreme first.
Sorted topk(const Tensor& x, int64_t k, int dim = -1, bool largest = true);

}  // namespace weft
