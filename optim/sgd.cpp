#include "weft/optim/sgd.h"

#include "weft/kernels/updates/sgd.h"
#include "weft/optim/multi_tensor.h"

namespace weft::optim {

void SGD::check_options(const Options& o) const {
  check_common(o);
  check(!o.nesterov || (o.momentum > 0 && o.dampening == 0),
        "sgd: nesterov needs momentum > 0 and dampening 0; they are ", o.momentum, " and ", o.dampening);
}

std::vector<Optimizer::Slot> SGD::slots(const Options& o) const {
  if (o.momentum == 0) return {};
  return {{"momentum_buffer"}};
}

void SGD::update(size_t group) {
  namespace up = kernels::updates;
  const auto l2 = [](const Options& o) { return o.decoupled_weight_decay ? 0 : o.weight_decay; };
  const auto shrink = [](const Options& o) {
    return o.decoupled_weight_decay ? 1 - o.lr * o.weight_decay : 1;
  };
  if (at(group).slots.empty()) {
    MultiTensor::step<up::sgd>(*this, group, [=](const Options& o, int64_t, auto type) {
      using T = decltype(type);
      return up::sgd<T>{.lr = T(o.lr), .l2 = T(l2(o)), .shrink = T(shrink(o))};
    });
    return;
  }
  MultiTensor::step<up::sgd_momentum>(*this, group, [=](const Options& o, int64_t t, auto type) {
    using T = decltype(type);
    // The first gradient replaces the zeroed buffer whole, whatever the dampening.
    const bool first = t == 1;
    return up::sgd_momentum<T>{.lr = T(o.lr),
                               .mu = T(first ? 0 : o.momentum),
                               .fresh = T(first ? 1 : 1 - o.dampening),
                               .ahead = T(o.momentum),
                               .l2 = T(l2(o)),
                               .shrink = T(shrink(o)),
                               .nesterov = o.nesterov};
  });
}

}  // namespace weft::optim
