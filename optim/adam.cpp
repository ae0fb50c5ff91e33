#include "weft/optim/adam.h"

#include <cmath>

#include "weft/kernels/updates/adam.h"
#include "weft/optim/multi_tensor.h"

namespace weft::optim {

void Adam::update(size_t group) {
  MultiTensor::step<kernels::updates::adam>(*this, group, [](const Options& o, int64_t t, auto type) {
    using T = decltype(type);
    const bool decoupled = o.decoupled_weight_decay;
    return kernels::updates::adam<T>{.step = T(o.lr / (1 - std::pow(o.betas[0], double(t)))),
                                     .root = T(1 / std::sqrt(1 - std::pow(o.betas[1], double(t)))),
                                     .eps = T(o.eps),
                                     .l2 = T(decoupled ? 0 : o.weight_decay),
                                     .shrink = T(decoupled ? 1 - o.lr * o.weight_decay : 1),
                                     .beta1 = T(o.betas[0]),
                                     .fresh1 = T(1 - o.betas[0]),
                                     .beta2 = T(o.betas[1]),
                                     .fresh2 = T(1 - o.betas[1])};
  });
}

}  // namespace weft::optim
