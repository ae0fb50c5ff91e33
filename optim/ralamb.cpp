#include "weft/optim/ralamb.h"

#include "weft/kernels/updates/ralamb.h"
#include "weft/optim/multi_tensor.h"
#include "weft/optim/radam.h"

namespace weft::optim {

void Ralamb::check_options(const Options& o) const {
  check_common(o);
  check(o.threshold >= 4, "ralamb: threshold is ", o.threshold, "; it must be 4 or more");
}

void Ralamb::update(size_t group) {
  MultiTensor::step<kernels::updates::ralamb>(*this, group, [](const Options& o, int64_t t, auto type) {
    using T = decltype(type);
    const RAdamStep step = radam_step(t, o.betas, o.threshold);
    const bool published = o.trust_ratio == TrustRatio::published;
    return kernels::updates::ralamb<T>{.adaptive = step.adaptive,
                                       .published = published,
                                       .lr = o.lr,
                                       .size = T(step.size),
                                       .eps = T(o.eps),
                                       .shrink = T(published ? 1 - o.lr * o.weight_decay : 1),
                                       .decay = T(published ? 0 : o.weight_decay),
                                       .of_p = T(published ? 1 : o.weight_decay),
                                       .of_d = T(published ? -o.lr : 1),
                                       .beta1 = T(o.betas[0]),
                                       .fresh1 = T(1 - o.betas[0]),
                                       .beta2 = T(o.betas[1]),
                                       .fresh2 = T(1 - o.betas[1]),
                                       .rate = 0};
  });
}

}  // namespace weft::optim
