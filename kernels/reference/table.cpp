#include "weft/kernels/reference/families.h"

namespace weft::kernels {

template <class T>
const KernelTable<T>& reference() {
  static const KernelTable<T> table = [] {
    KernelTable<T> t{};
    t.name = "reference";
    plain::set_elementwise(t);
    plain::set_learned_activation(t);
    plain::set_reduce(t);
    plain::set_gemm(t);
    plain::set_conv2d(t);
    plain::set_pool(t);
    plain::set_batch_norm(t);
    plain::set_group_norm(t);
    plain::set_spectral_norm(t);
    plain::set_order(t);
    plain::set_softmax(t);
    return t;
  }();
  return table;
}

template const KernelTable<float>& reference<float>();
template const KernelTable<double>& reference<double>();

}  // namespace weft::kernels
