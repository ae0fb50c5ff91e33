#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// Mean and biased variance of each channel of a tensor [..., C]: [C] each. What conv2d can tell batch_norm
/// of its output, so that nobody has to read it again.
struct ChannelStats {
  Tensor mean, var;
};

}  // namespace weft
