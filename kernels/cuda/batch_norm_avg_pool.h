// A batch norm with a residual and an activation, and the average of its result over windows of 2x2: the end
// of a network's stage.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

// The table's entries.
bool has_batch_norm_avg_pool(const Pool2dParams& p, Activation act);
template <class T>
void batch_norm_avg_pool_forward(const BatchNormArgs<T>& a, const Pool2dParams& p, T* y, T* pooled);
template <class T>
void batch_norm_avg_pool_backward_reduce(const BatchNormArgs<T>& a, const Pool2dParams& p, const T* dy,
                                         const T* dpooled, T* g, float* dweight, float* dbias);

}  // namespace weft::kernels::cuda
