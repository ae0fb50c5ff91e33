#include "weft/optim/novograd.h"

#include "weft/kernels/updates/novograd.h"
#include "weft/optim/multi_tensor.h"

namespace weft::optim {

void NovoGrad::update(size_t group) {
  MultiTensor::step<kernels::updates::novograd>(*this, group, [](const Options& o, int64_t t, auto type) {
    using T = decltype(type);
    return kernels::updates::novograd<T>{.first = t == 1,
                                         .restart_at_zero = o.restart_at_zero,
                                         .beta2 = o.betas[1],
                                         .eps = o.eps,
                                         .lr = T(o.lr),
                                         .beta1 = T(o.betas[0]),
                                         .fresh = T(o.grad_averaging ? 1 - o.betas[0] : 1),
                                         .decay = T(o.weight_decay),
                                         .scale = 0};
  });
}

}  // namespace weft::optim
