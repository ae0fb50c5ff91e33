#include "weft/optim/lars.h"

#include <cmath>

#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

struct Norms {
  template <class T>
  std::array<double, 2> operator()(const Chunk<T>& c) const {
    return {sum_squares(c.n, c.p), sum_squares(c.n, c.g)};
  }
};

struct Update {
  double mu, rate, weight_decay;

  template <class T>
  void operator()(const Chunk<T>& c) const {
    const T mu = T(this->mu), rate = T(this->rate), wd = T(weight_decay);
    T* __restrict p = c.p, * __restrict u = c.state[0];
    const T* __restrict g = c.g;
    for (int64_t i = 0; i < c.n; ++i) {
      u[i] = mu * u[i] + rate * (g[i] + wd * p[i]);
      p[i] -= u[i];
    }
  }
};

}  // namespace

void LARS::check_options(const Options& o) const {
  check_common(o);
  check(o.trust_coefficient > 0, "lars: trust_coefficient is ", o.trust_coefficient, "; it must be above 0");
}

void LARS::update(Group& group, const Options& o) {
  const auto work = MultiTensor::prepare(group, [](const Entry&, int64_t) { return Norms{}; });
  std::vector<std::array<double, 2>> squares(work.size());
  if (o.adapt) squares = MultiTensor::reduce<2>(group, work);
  MultiTensor::PerEntry<Update> updates(work.size());
  for (size_t i = 0; i < work.size(); ++i) {
    if (!work[i]) continue;
    const double p = std::sqrt(squares[i][0]), g = std::sqrt(squares[i][1]);
    double ratio = 1;
    if (o.adapt && p != 0 && g != 0) ratio = o.trust_coefficient * p / (g + o.weight_decay * p);
    if (o.clip && ratio > 1) ratio = 1;
    updates[i] = Update{.mu = o.momentum, .rate = o.lr * ratio, .weight_decay = o.weight_decay};
  }
  MultiTensor::apply(group, updates);
}

}  // namespace weft::optim
