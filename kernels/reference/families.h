// Inside of the reference kernels: each family of ops is one .cpp file that enters its functions into the
// table. What an entry computes is said once, at its declaration in kernels/kernels.h.
//
// A float sum is accumulated in double and rounded once, so that the float table is a yardstick for faster
// kernels.
#pragma once

#include "weft/kernels/kernels.h"
#include "weft/kernels/with_activation.h"

namespace weft::kernels::plain {

template <class T>
void set_elementwise(KernelTable<T>& table);
template <class T>
void set_learned_activation(KernelTable<T>& table);
template <class T>
void set_reduce(KernelTable<T>& table);
template <class T>
void set_gemm(KernelTable<T>& table);
template <class T>
void set_conv2d(KernelTable<T>& table);
template <class T>
void set_pool(KernelTable<T>& table);
template <class T>
void set_batch_norm(KernelTable<T>& table);
template <class T>
void set_group_norm(KernelTable<T>& table);
template <class T>
void set_spectral_norm(KernelTable<T>& table);
template <class T>
void set_order(KernelTable<T>& table);
template <class T>
void set_softmax(KernelTable<T>& table);

/// The larger of two; NaN if either is.
template <class T>
T maximum(T a, T b) {
  return a > b || a != a ? a : b;
}
/// The smaller of two; NaN if either is.
template <class T>
T minimum(T a, T b) {
  return a < b || a != a ? a : b;
}

}  // namespace weft::kernels::plain
