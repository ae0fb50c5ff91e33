// Convolutions of few channels as matrix products: the patch of x under the filter becomes, for each pixel of
// y, a row of its own. Beside y such a row is short.
#pragma once

#include <cstdint>

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

/// Whether patches_convolution() computes it: forward or backward_weight without groups, by a filter of more
/// than one tap and at most 64 weights for each output.
bool can_patch(ConvPass pass, const Conv2dParams& p);
/// Bytes of the patches and of w in rows as long, each rounded up to 256.
int64_t patches_bytes(const Conv2dParams& p);
/// The pass in a 16-bit type, by the table's gemm; y or w is the output. x and w may lie anywhere, `memory`
/// of patches_bytes() is aligned to 256.
template <class T>
void patches_convolution(ConvPass pass, const Conv2dParams& p, const T* x, T* w, T* y, void* memory);

/// Rows of [kernel_h, kernel_w, in_c] numbers of 16 bits for each pixel of the output, 0 outside of x, and
/// zeros behind them up to a multiple of 8. `patches` is aligned to 16 bytes.
void copy_patches(const Conv2dParams& p, const uint16_t* x, uint16_t* patches);

}  // namespace weft::kernels::cuda
