#include "weft/optim/radam.h"

#include <cmath>

#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

struct Update {
  bool adaptive;
  double step, beta1, beta2, eps, l2, shrink;

  template <class T>
  void operator()(const Chunk<T>& c) const {
    const T step = T(this->step), eps = T(this->eps), l2 = T(this->l2), shrink = T(this->shrink);
    const T b1 = T(beta1), a1 = T(1 - beta1), b2 = T(beta2), a2 = T(1 - beta2);
    T* __restrict p = c.p;
    const T* __restrict g = c.g;
    T* __restrict m = c.state[0], * __restrict v = c.state[1];
    if (adaptive) {
      for (int64_t i = 0; i < c.n; ++i) {
        const T d = g[i] + l2 * p[i];
        m[i] = b1 * m[i] + a1 * d;
        v[i] = b2 * v[i] + a2 * d * d;
        p[i] = p[i] * shrink - step * m[i] / (std::sqrt(v[i]) + eps);
      }
    } else {
      for (int64_t i = 0; i < c.n; ++i) {
        const T d = g[i] + l2 * p[i];
        m[i] = b1 * m[i] + a1 * d;
        v[i] = b2 * v[i] + a2 * d * d;
        p[i] = p[i] * shrink - step * m[i];
      }
    }
  }
};

}  // namespace

RAdamStep radam_step(int64_t t, const std::array<double, 2>& betas, double threshold) {
  const double beta2_t = std::pow(betas[1], double(t)), debias = 1 - std::pow(betas[0], double(t));
  const double rho_inf = 2 / (1 - betas[1]) - 1;
  const double rho = rho_inf - 2 * double(t) * beta2_t / (1 - beta2_t);
  if (!(rho > threshold)) return {false, 1 / debias};
  const double rectifier = (rho - 4) / (rho_inf - 4) * ((rho - 2) / (rho_inf - 2)) * (rho_inf / rho);
  return {true, std::sqrt((1 - beta2_t) * rectifier) / debias};
}

void RAdam::check_options(const Options& o) const {
  check_common(o);
  check(o.threshold >= 4, "radam: threshold is ", o.threshold,
        "; it must be 4 or more, below which the variance has no estimate");
}

void RAdam::update(Group& group, const Options& o) {
  const bool decoupled = o.decoupled_weight_decay;
  MultiTensor::apply(group, MultiTensor::prepare(group, [&](const Entry&, int64_t t) {
                       const RAdamStep step = radam_step(t, o.betas, o.threshold);
                       return Update{.adaptive = step.adaptive,
                                     .step = o.lr * step.size,
                                     .beta1 = o.betas[0],
                                     .beta2 = o.betas[1],
                                     .eps = o.eps,
                                     .l2 = decoupled ? 0 : o.weight_decay,
                                     .shrink = decoupled ? 1 - o.lr * o.weight_decay : 1};
                     }));
}

}  // namespace weft::optim
