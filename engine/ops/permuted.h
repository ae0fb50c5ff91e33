#pragma once

#include <vector>

#include "weft/engine/tensor.h"

namespace weft::ops {

/// A copy of x with its dimensions in another order, each of them named once; not recorded.
Tensor permuted(const Tensor& x, const std::vector<int>& order);

}  // namespace weft::ops
