// Two batch norms whose results are added, the last one of a block and that of its shortcut, with an
// activation: neither result is written.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

// The table's entries.
template <class T>
void batch_norm_pair_forward(const BatchNormArgs<T>& a, const BatchNormArgs<T>& b, T* y);
template <class T>
void batch_norm_pair_backward(const BatchNormArgs<T>& a, const BatchNormArgs<T>& b, const T* dy,
                              const BatchNormGradients<T>& da, const BatchNormGradients<T>& db);

}  // namespace weft::kernels::cuda
