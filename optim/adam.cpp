#include "weft/optim/adam.h"

#include <cmath>

#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

struct Update {
  double step, root, beta1, beta2, eps, l2, shrink;  // root: 1 / sqrt(1 - beta2^t)

  template <class T>
  void operator()(const Chunk<T>& c) const {
    const T step = T(this->step), root = T(this->root), eps = T(this->eps), l2 = T(this->l2),
            shrink = T(this->shrink);
    const T b1 = T(beta1), a1 = T(1 - beta1), b2 = T(beta2), a2 = T(1 - beta2);
    T* __restrict p = c.p;
    const T* __restrict g = c.g;
    T* __restrict m = c.state[0], * __restrict v = c.state[1];
    for (int64_t i = 0; i < c.n; ++i) {
      const T d = g[i] + l2 * p[i];
      m[i] = b1 * m[i] + a1 * d;
      v[i] = b2 * v[i] + a2 * d * d;
      p[i] = p[i] * shrink - step * m[i] / (std::sqrt(v[i]) * root + eps);
    }
  }
};

}  // namespace

void Adam::update(Group& group, const Options& o) {
  const bool decoupled = o.decoupled_weight_decay;
  MultiTensor::apply(group, MultiTensor::prepare(group, [&](const Entry&, int64_t t) {
                       return Update{.step = o.lr / (1 - std::pow(o.betas[0], double(t))),
                                     .root = 1 / std::sqrt(1 - std::pow(o.betas[1], double(t))),
                                     .beta1 = o.betas[0],
                                     .beta2 = o.betas[1],
                                     .eps = o.eps,
                                     .l2 = decoupled ? 0 : o.weight_decay,
                                     .shrink = decoupled ? 1 - o.lr * o.weight_decay : 1};
                     }));
}

}  // namespace weft::optim
