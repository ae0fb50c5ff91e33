// Kernels beside cuDNN's: the bias, the padding of few channels, and the plain sums for what cuDNN has no
// plan for.
#pragma once

#include <cstdint>

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

/// y[r][c] += bias[c].
template <class T>
void add_bias(int64_t rows, int64_t channels, const T* bias, T* y);

/// One pass as kernels/reference/conv2d.cpp has it, summed in float, in a fixed order, at no particular
/// speed. In each pass the order is x (or dx), w (or dw), y (or dy); one of them is written.
template <class T>
void plain_convolution(ConvPass pass, const Conv2dParams& p, T* x, T* w, T* y);

/// Rows of 8 16-bit numbers from rows of `channels`, which is at most 8: zeros behind these. `padded` is
/// aligned to 16 bytes.
void pad_channels(int64_t rows, int64_t channels, const uint16_t* x, uint16_t* padded);
/// The way back: the first `channels` of each row of `width`.
void cut_channels(int64_t rows, int64_t channels, int64_t width, const uint16_t* padded, uint16_t* y);

}  // namespace weft::kernels::cuda
