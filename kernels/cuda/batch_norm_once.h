// Batch norm in training in one pass, where the values fit into the registers of the GPU: some blocks read
// the rows of some channels, add up what their statistics need, wait for each other, and go on with what they
// still have in hand. So nothing is read twice, and no kernel waits for another one's sums.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

struct Update;  // moments.h

/// The table's entries; false: there is no room, or no kernel for the activation, and nothing was done.
template <class T>
bool batch_norm_forward_once(const BatchNormArgs<T>& a, const Update& update, float* mean, T* y);
template <class T>
bool batch_norm_backward_once(const BatchNormArgs<T>& a, const T* dy, T* g, float* dweight, float* dbias,
                              T* dx);

}  // namespace weft::kernels::cuda
