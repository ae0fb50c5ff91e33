#include "weft/optim/novograd.h"

#include <cmath>

#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

struct GradientNorm {
  template <class T>
  std::array<double, 1> operator()(const Chunk<T>& c) const {
    return {sum_squares(c.n, c.g)};
  }
};

struct Update {
  double lr, beta1, fresh, scale, weight_decay;  // scale: 1 / (sqrt(v) + eps)

  template <class T>
  void operator()(const Chunk<T>& c) const {
    const T lr = T(this->lr), b1 = T(beta1), a1 = T(fresh), scale = T(this->scale), wd = T(weight_decay);
    T* __restrict p = c.p, * __restrict m = c.state[0];
    const T* __restrict g = c.g;
    for (int64_t i = 0; i < c.n; ++i) {
      m[i] = b1 * m[i] + a1 * (g[i] * scale + wd * p[i]);
      p[i] -= lr * m[i];
    }
  }
};

}  // namespace

void NovoGrad::update(Group& group, const Options& o) {
  const auto times = MultiTensor::prepare(group, [](const Entry&, int64_t t) { return t; });
  MultiTensor::PerEntry<GradientNorm> with_gradient(times.size());
  for (size_t i = 0; i < times.size(); ++i)
    if (times[i]) with_gradient[i].emplace();
  const auto norms = MultiTensor::reduce<1>(group, with_gradient);
  MultiTensor::PerEntry<Update> work(times.size());
  for (size_t i = 0; i < work.size(); ++i) {
    if (!times[i]) continue;
    double& v = *group.entries[i].state[1].data<double>();
    const bool start = o.restart_at_zero ? v == 0 : *times[i] == 1;
    v = start ? norms[i][0] : o.betas[1] * v + (1 - o.betas[1]) * norms[i][0];
    work[i] = Update{.lr = o.lr,
                     .beta1 = o.betas[0],
                     .fresh = o.grad_averaging ? 1 - o.betas[0] : 1,
                     .scale = 1 / (std::sqrt(v) + o.eps),
                     .weight_decay = o.weight_decay};
  }
  MultiTensor::apply(group, work);
}

}  // namespace weft::optim
