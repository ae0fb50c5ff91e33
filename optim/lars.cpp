#include "weft/optim/lars.h"

#include "weft/kernels/updates/lars.h"
#include "weft/optim/multi_tensor.h"

namespace weft::optim {

void LARS::check_options(const Options& o) const {
  check_common(o);
  check(o.trust_coefficient > 0, "lars: trust_coefficient is ", o.trust_coefficient, "; it must be above 0");
}

void LARS::update(size_t group) {
  MultiTensor::step<kernels::updates::lars>(*this, group, [](const Options& o, int64_t, auto type) {
    using T = decltype(type);
    return kernels::updates::lars<T>{.adapt = o.adapt,
                                     .clip = o.clip,
                                     .lr = o.lr,
                                     .trust = o.trust_coefficient,
                                     .weight_decay = o.weight_decay,
                                     .mu = T(o.momentum),
                                     .decay = T(o.weight_decay),
                                     .rate = T(o.lr)};
  });
}

}  // namespace weft::optim
