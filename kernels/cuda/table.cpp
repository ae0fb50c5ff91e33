#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/families.h"

namespace weft::kernels::cuda {

template <class T>
const KernelTable<T>& table() {
  static const KernelTable<T> table = [] {
    KernelTable<T> t{};
    t.name = "cuda";
    set_elementwise(t);
    set_learned_activation(t);
    set_reduce(t);
    set_gemm(t);
    set_conv2d(t);
    set_pool(t);
    set_batch_norm(t);
    set_group_norm(t);
    set_spectral_norm(t);
    set_gather(t);
    set_argsort(t);
    set_cumsum(t);
    set_softmax(t);
    return t;
  }();
  return table;
}

template const KernelTable<float>& table<float>();
template const KernelTable<bf16>& table<bf16>();
template const KernelTable<f16>& table<f16>();

}  // namespace weft::kernels::cuda
