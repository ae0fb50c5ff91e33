// A batch norm with its activation and the maximum of its result over windows: the end of a network's stem.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

// The table's entries.
bool has_batch_norm_max_pool(const Pool2dParams& p, Activation act);
template <class T>
void batch_norm_max_pool_forward(const BatchNormArgs<T>& a, const Pool2dParams& p, T* y, uint8_t* at,
                                 T* x_at);
template <class T>
void batch_norm_max_pool_backward(const BatchNormArgs<T>& a, const Pool2dParams& p, const T* dy,
                                  const uint8_t* at, const T* x_at, T* g, const BatchNormGradients<T>& d);

}  // namespace weft::kernels::cuda
