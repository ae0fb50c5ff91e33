// Matrix products without a library, at no particular speed.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

/// Whether WEFT_CUDA_OWN_KERNELS=1 keeps the kernels of cuDNN and cuBLASLt out of this process: for tools
/// that break down over them, and to tell whose mistake it is.
bool own_kernels_only();

/// d = alpha op(a) op(b) (+ beta c if p.accumulate, where beta = 0 does not look at c), summed in float, in a
/// fixed order. c may be d. No size is 0; batch matrices of d don't lie in one place.
template <class T>
void plain_product(const GemmParams& p, float alpha, const T* a, const T* b, float beta, const T* c, T* d);

}  // namespace weft::kernels::cuda
