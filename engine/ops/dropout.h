#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// In training: each element is zeroed with probability p, the others are scaled by 1 / (1 - p), with p = 1
/// there are none. Otherwise: x. The mask is one Philox stream of `generator`; backward draws it again
/// instead of keeping it. A captured step draws a new one at each launch.
Tensor dropout(const Tensor& x, double p = 0.5, bool training = true,
               Generator& generator = default_generator());

}  // namespace weft
