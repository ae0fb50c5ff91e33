// Inside of the CUDA kernels: each family of ops is one source that enters its functions into the table, for
// T = float, bf16 and f16. What an entry computes is said once, at its declaration in kernels/kernels.h.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

template <class T>
void set_elementwise(KernelTable<T>& table);  // unary .. dropout, rrelu
template <class T>
void set_learned_activation(KernelTable<T>& table);
template <class T>
void set_reduce(KernelTable<T>& table);  // reduce, argmax
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
void set_gather(KernelTable<T>& table);  // gather, scatter_add
template <class T>
void set_argsort(KernelTable<T>& table);
template <class T>
void set_cumsum(KernelTable<T>& table);
template <class T>
void set_softmax(KernelTable<T>& table);  // softmax .. cross_entropy_backward

}  // namespace weft::kernels::cuda
