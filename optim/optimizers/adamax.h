// Adamax: Adam with the largest gradient in the place of the second moment.
#pragma once

#include <array>
#include <cmath>

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct AdamaxOptions {
  double lr = 2e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;  ///< lambda
};

namespace updates {

template <class T>
struct adamax {
  static constexpr const char* kName = "adamax";
  static constexpr int kSlots = 2;
  T step, eps, l2;  // step: lr / (1 - beta1^t)
  T beta1, fresh1, beta2;

  WEFT_HD void operator()(T& p, T g, T& m, T& u) const {
    const T d = g + l2 * p, size = kernels::math::abs(d) + eps, old = beta2 * u;
    m = beta1 * m + fresh1 * d;
    u = old > size ? old : size;
    p -= step * m / u;
  }
};

}  // namespace updates

/// adamax: Adamax (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 2) as torch.optim.Adamax,
/// which adds eps.
///
///   g <- g + lambda p,  m <- beta1 m + (1 - beta1) g,  u <- max(beta2 u, |g| + eps)
///   p <- p - lr / (1 - beta1^t) * m / u
///
/// Slots: "exp_avg" (m), "exp_inf" (u).
class Adamax : public FormulaOptimizer<Adamax, AdamaxOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "adamax";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}, {"exp_inf"}}; }

  template <class T>
  static updates::adamax<T> formula(const Options& o, int64_t t) {
    return {.step = T(o.lr / (1 - std::pow(o.betas[0], double(t)))),
            .eps = T(o.eps),
            .l2 = T(o.weight_decay),
            .beta1 = T(o.betas[0]),
            .fresh1 = T(1 - o.betas[0]),
            .beta2 = T(o.betas[1])};
  }
};

inline std::unique_ptr<Optimizer> make_adamax(const auto& groups, const Hyper& hyper) {
  return two_groups<Adamax>(groups, hyper);
}

}  // namespace weft::optim
