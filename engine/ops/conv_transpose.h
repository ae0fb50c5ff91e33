// The transposed convolution, and convolutions of sequences.
#pragma once

#include "weft/engine/ops/conv.h"

namespace weft {

struct ConvTransposeOptions {
  int64_t stride = 1, padding = 0, output_padding = 0, dilation = 1, groups = 1;
};

/// Transposed convolution, the gradient of conv2d with respect to its input taken as an op: x [N, H, W, C],
/// weight [C, KH, KW, OC / groups] (PyTorch's [C, OC / groups, KH, KW] with its channels last), bias [OC] or
/// undefined -> [N, OH, OW, OC], OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.
/// output_padding must be smaller than the stride.
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                        const ConvTransposeOptions& options = {});
/// The same for sequences: x [N, L, C], weight [C, K, OC / groups] -> [N, OL, OC].
Tensor conv_transpose1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                        const ConvTransposeOptions& options = {});

/// 1-d convolution: x [N, L, C], weight [OC, K, C / groups] (PyTorch's [OC, C / groups, K] with its channels
/// last), bias [OC] or undefined -> [N, OL, OC], OL = (L + 2 padding - dilation (K - 1) - 1) / stride + 1.
Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Conv2dOptions& options = {});

}  // namespace weft
