#include "weft/optim/ralamb.h"

#include <algorithm>
#include <cmath>

#include "weft/optim/multi_tensor.h"
#include "weft/optim/radam.h"

namespace weft::optim {
namespace {

/// size * dir, the step of RAdam without the learning rate, element by element from the moments.
template <bool adaptive, class T>
T radam_direction(T size, T eps, T m, T v) {
  if constexpr (adaptive)
    return size * m / (std::sqrt(v) + eps);
  else
    return size * m;
}

/// Updates the moments and decays the weights (published form); returns the squares of the two norms of the
/// trust ratio: of the weights, and of what they are divided by.
struct Moments {
  RAdamStep radam;
  TrustRatio form;
  double lr, beta1, beta2, eps, weight_decay;

  template <class T>
  std::array<double, 2> operator()(const Chunk<T>& c) const {
    const T b1 = T(beta1), a1 = T(1 - beta1), b2 = T(beta2), a2 = T(1 - beta2);
    const T shrink = form == TrustRatio::published ? T(1 - lr * weight_decay) : T(1);
    T* __restrict p = c.p;
    const T* __restrict g = c.g;
    T* __restrict m = c.state[0], * __restrict v = c.state[1];
    for (int64_t i = 0; i < c.n; ++i) {
      m[i] = b1 * m[i] + a1 * g[i];
      v[i] = b2 * v[i] + a2 * g[i] * g[i];
      p[i] *= shrink;
    }
    return {sum_squares(c.n, c.p), radam.adaptive ? divisor<true>(c) : divisor<false>(c)};
  }

 private:
  template <bool adaptive, class T>
  double divisor(const Chunk<T>& c) const {
    const T size = T(radam.size), eps = T(this->eps), lr = T(this->lr), wd = T(weight_decay);
    const T *p = c.p, *m = c.state[0], *v = c.state[1];
    if (form == TrustRatio::published)
      return sum_terms(c.n, [=](int64_t i) {
        const double x = double(p[i] - lr * radam_direction<adaptive>(size, eps, m[i], v[i]));
        return x * x;
      });
    return sum_terms(c.n, [=](int64_t i) {
      const double x = double(radam_direction<adaptive>(size, eps, m[i], v[i]) + wd * p[i]);
      return x * x;
    });
  }
};

struct Update {
  RAdamStep radam;
  double rate, eps, weight_decay;  // weight_decay: in the intended form, where it is part of the step

  template <class T>
  void operator()(const Chunk<T>& c) const {
    if (radam.adaptive)
      run<true>(c);
    else
      run<false>(c);
  }

 private:
  template <bool adaptive, class T>
  void run(const Chunk<T>& c) const {
    const T size = T(radam.size), eps = T(this->eps), rate = T(this->rate), wd = T(weight_decay);
    T* __restrict p = c.p;
    const T* __restrict m = c.state[0], * __restrict v = c.state[1];
    for (int64_t i = 0; i < c.n; ++i)
      p[i] -= rate * (radam_direction<adaptive>(size, eps, m[i], v[i]) + wd * p[i]);
  }
};

/// The trust ratio from the two norms; NaN goes through.
double trust(TrustRatio form, double weights, double divisor) {
  if (form == TrustRatio::published) weights = std::clamp(weights, 0.0, 10.0);
  if (weights == 0 || divisor == 0) return 1;
  const double ratio = weights / divisor;
  return form == TrustRatio::published ? ratio : std::clamp(ratio, 0.0, 10.0);
}

}  // namespace

void Ralamb::check_options(const Options& o) const {
  check_common(o);
  check(o.threshold >= 4, "ralamb: threshold is ", o.threshold, "; it must be 4 or more");
}

void Ralamb::update(Group& group, const Options& o) {
  const auto moments = MultiTensor::prepare(group, [&](const Entry&, int64_t t) {
    return Moments{.radam = radam_step(t, o.betas, o.threshold),
                   .form = o.trust_ratio,
                   .lr = o.lr,
                   .beta1 = o.betas[0],
                   .beta2 = o.betas[1],
                   .eps = o.eps,
                   .weight_decay = o.weight_decay};
  });
  const auto squares = MultiTensor::reduce<2>(group, moments);
  MultiTensor::PerEntry<Update> updates(moments.size());
  for (size_t i = 0; i < moments.size(); ++i) {
    if (!moments[i]) continue;
    const double ratio = trust(o.trust_ratio, std::sqrt(squares[i][0]), std::sqrt(squares[i][1]));
    updates[i] = Update{.radam = moments[i]->radam,
                        .rate = o.lr * ratio,
                        .eps = o.eps,
                        .weight_decay = o.trust_ratio == TrustRatio::intended ? o.weight_decay : 0};
  }
  MultiTensor::apply(group, updates);
}

}  // namespace weft::optim
