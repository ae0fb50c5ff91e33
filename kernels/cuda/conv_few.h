// Convolutions of few channels, as of a picture, on the tensor cores: with the statistics that the next batch
// norm wants.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

/// Whether there is one in T: in 16 bits, without groups, by a filter of at most 32 weights for each of 32,
/// 64, ... output channels.
template <class T>
bool has_conv_few(const Conv2dParams& p);

/// y = x * w, with mean and biased variance of its channels as its values were before they were rounded. x
/// and w may lie anywhere, y is aligned to 16 bytes.
template <class T>
void conv_few_stats(const Conv2dParams& p, const T* x, const T* w, T* y, float* mean, float* var);

/// dw of the same convolution. dy is aligned to 16 bytes, `memory` of so many bytes to 4.
int64_t conv_few_weight_bytes(const Conv2dParams& p);
template <class T>
void conv_few_weight(const Conv2dParams& p, const T* x, const T* dy, T* dw, void* memory);

}  // namespace weft::kernels::cuda
