// Convolutions of fewer than 8 channels by cuDNN's plans for 8, whose kernels read 16 bytes at a time: x and
// w are padded with zeros.
#pragma once

#include "weft/kernels/cuda/conv_plans.h"

namespace weft::kernels::cuda {

/// Whether execute_padded() computes it: forward or backward_weight, in 16 bits, without groups.
bool can_pad(const ConvKey& key);
/// The same convolution of 8 channels.
ConvKey padded_key(ConvKey key);
/// Bytes of the padded x and w, each rounded up to 256.
int64_t padded_bytes(const Conv2dParams& p);
/// Runs a plan for padded_key(key) on copies of x, w or dw, in `memory` of padded_bytes() and behind these
/// the plan's workspace.
void execute_padded(cudnnHandle_t handle, const ConvKey& key, const cudnn::Plan& plan, void* x, void* w,
                    void* y, void* memory);

}  // namespace weft::kernels::cuda
