#pragma once

#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/packed_weight.h"

namespace weft {

struct Conv2dOptions {
  int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
};

/// 2-d convolution (cross-correlation, as everywhere in the field): x [N, H, W, C], weight [OC, KH, KW, C /
/// groups], bias [OC] or undefined -> [N, OH, OW, OC], OH = (H + 2 padding - dilation (KH - 1) - 1) / stride
/// + 1. Where `stats` is given, the result's channel statistics are put there (constants to further ops) if
/// they come cheaper on the way; batch_norm computes those that are not there. With `packed` a
/// parameter's packed form is kept there, and the statistics are left to batch_norm where it is used.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Conv2dOptions& options = {}, ChannelStats* stats = nullptr,
              PackedWeight* packed = nullptr);

/// batch_norm(conv2d(x, ...)) in evaluation in one pass over the result, to the same bits, with nothing
/// recorded. For inputs of which can_conv2d_batch_norm() is true: f32 on the CPU, while no Tape, Trace or
/// DetectAnomaly looks at ops.
Tensor conv2d_batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                         const Conv2dOptions& options, const RunningNorm& norm,
                         PackedWeight* packed = nullptr);
bool can_conv2d_batch_norm(const Tensor& x);

}  // namespace weft
