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

/// The weights after their decay, which in the published form comes before the step.
template <class T>
T shrink_of(TrustRatio form, double lr, double weight_decay) {
  return form == TrustRatio::published ? T(1 - lr * weight_decay) : T(1);
}

/// Updates the moments; returns the squares of the two norms of the trust ratio: of the (decayed) weights,
/// and of what they are divided by.
struct Moments {
  RAdamStep radam;
  TrustRatio form;
  double lr, beta1, beta2, eps, weight_decay;

  template <class T>
  std::array<double, 2> operator()(const Chunk<T>& c) const {
    return radam.adaptive ? run<true>(c) : run<false>(c);
  }

 private:
  template <bool adaptive, class T>
  std::array<double, 2> run(const Chunk<T>& c) const {
    const T b1 = T(beta1), a1 = T(1 - beta1), b2 = T(beta2), a2 = T(1 - beta2);
    const T shrink = shrink_of<T>(form, lr, weight_decay), size = T(radam.size), eps = T(this->eps);
    // The divisor: p - lr d as published, d + wd p as intended.
    const bool published = form == TrustRatio::published;
    const T of_p = published ? T(1) : T(weight_decay), of_d = published ? T(-lr) : T(1);
    std::array<double, 2> sums{};
    for (int64_t first = 0; first < c.n; first += kSumBlock) {
      const int64_t n = c.n - first < kSumBlock ? c.n - first : kSumBlock;
      const T* __restrict p = c.p + first;
      const T* __restrict g = c.g + first;
      T* __restrict m = c.state[0] + first, * __restrict v = c.state[1] + first;
      T weights[kSumBlock], divisors[kSumBlock];
      for (int64_t i = 0; i < n; ++i) {
        m[i] = b1 * m[i] + a1 * g[i];
        v[i] = b2 * v[i] + a2 * g[i] * g[i];
        weights[i] = p[i] * shrink;
        divisors[i] = of_p * weights[i] + of_d * radam_direction<adaptive>(size, eps, m[i], v[i]);
      }
      sums[0] += block_squares(n, weights);
      sums[1] += block_squares(n, divisors);
    }
    return sums;
  }
};

struct Update {
  RAdamStep radam;
  double shrink, rate, eps,
      weight_decay;  // weight_decay: in the intended form, where it is part of the step

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
    const T size = T(radam.size), eps = T(this->eps), rate = T(this->rate), wd = T(weight_decay),
            shrink = T(this->shrink);
    T* __restrict p = c.p;
    const T* __restrict m = c.state[0], * __restrict v = c.state[1];
    for (int64_t i = 0; i < c.n; ++i) {
      const T w = p[i] * shrink;
      p[i] = w - rate * (radam_direction<adaptive>(size, eps, m[i], v[i]) + wd * w);
    }
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
                        .shrink = shrink_of<double>(o.trust_ratio, o.lr, o.weight_decay),
                        .rate = o.lr * ratio,
                        .eps = o.eps,
                        .weight_decay = o.trust_ratio == TrustRatio::intended ? o.weight_decay : 0};
  }
  MultiTensor::apply(group, updates);
}

}  // namespace weft::optim
