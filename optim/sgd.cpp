#include "weft/optim/sgd.h"

#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

struct Update {
  double lr, mu, fresh, l2, shrink;  // fresh: the weight of g in the buffer
  bool first, nesterov, has_buffer;

  template <class T>
  void operator()(const Chunk<T>& c) const {
    const T lr = T(this->lr), l2 = T(this->l2), shrink = T(this->shrink);
    T* __restrict p = c.p;
    const T* __restrict g = c.g;
    if (!has_buffer) {
      for (int64_t i = 0; i < c.n; ++i) p[i] = p[i] * shrink - lr * (g[i] + l2 * p[i]);
      return;
    }
    T* __restrict u = c.state[0];
    // The first gradient replaces the zeroed buffer whole, whatever the dampening.
    const T mu = first ? T(0) : T(this->mu), fresh = first ? T(1) : T(this->fresh);
    if (nesterov) {
      const T ahead = T(this->mu);
      for (int64_t i = 0; i < c.n; ++i) {
        const T d = g[i] + l2 * p[i];
        u[i] = mu * u[i] + fresh * d;
        p[i] = p[i] * shrink - lr * (d + ahead * u[i]);
      }
    } else {
      for (int64_t i = 0; i < c.n; ++i) {
        u[i] = mu * u[i] + fresh * (g[i] + l2 * p[i]);
        p[i] = p[i] * shrink - lr * u[i];
      }
    }
  }
};

}  // namespace

void SGD::check_options(const Options& o) const {
  check_common(o);
  check(!o.nesterov || (o.momentum > 0 && o.dampening == 0),
        "sgd: nesterov needs momentum > 0 and dampening 0; they are ", o.momentum, " and ", o.dampening);
}

std::vector<Optimizer::Slot> SGD::slots(const Options& o) const {
  if (o.momentum == 0) return {};
  return {{"momentum_buffer"}};
}

void SGD::update(Group& group, const Options& o) {
  const bool decoupled = o.decoupled_weight_decay;
  MultiTensor::apply(group, MultiTensor::prepare(group, [&](const Entry&, int64_t t) {
                       return Update{.lr = o.lr,
                                     .mu = o.momentum,
                                     .fresh = 1 - o.dampening,
                                     .l2 = decoupled ? 0 : o.weight_decay,
                                     .shrink = decoupled ? 1 - o.lr * o.weight_decay : 1,
                                     .first = t == 1,
                                     .nesterov = o.nesterov,
                                     .has_buffer = !group.slots.empty()};
                     }));
}

}  // namespace weft::optim
