// Batch norm in training in one pass, where the values fit into the registers of the GPU: a cluster of blocks
// reads the rows of some channels, adds up what its statistics need, and goes on with what it still has in
// hand. So nothing is read twice, and no kernel waits for another one's sums.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

struct Update;  // moments.h

/// Whether the values of 16 bits have room in the forward.
bool fits_batch_norm_once(int64_t rows, int64_t channels);

/// The table's entries; false: there is no room, or no kernel for the activation, and nothing was done.
template <class T>
bool batch_norm_forward_once(const BatchNormArgs<T>& a, const Update& update, float* mean, T* y);
template <class T>
bool batch_norm_backward_once(const BatchNormArgs<T>& a, const T* dy, float* dweight, float* dbias, T* dx);

}  // namespace weft::kernels::cuda
