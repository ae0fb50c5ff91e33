// What activation.cu adds to the elementwise ops.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

template <class T>
void set_activation(KernelTable<T>& table);  // activation .. activation_curvature

}  // namespace weft::kernels::cuda
