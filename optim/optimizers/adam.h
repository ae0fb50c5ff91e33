// Adam.
#pragma once

#include <array>
#include <cmath>

#include "weft/kernels/updates/moments.h"
#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct AdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;              ///< lambda
  bool decoupled_weight_decay = false;  ///< true: AdamW
};

namespace updates {

template <class T>
struct adam {
  static constexpr const char* kName = "adam";
  static constexpr int kSlots = 2;
  T step, root, eps, l2, shrink;  // step: lr / (1 - beta1^t); root: 1 / sqrt(1 - beta2^t)
  kernels::updates::moments<T> averages;

  WEFT_HD void operator()(T& p, T g, T& m, T& v) const {
    const T d = g + l2 * p;
    averages.advance(d, m, v);
    p = p * shrink - step * m / (kernels::math::sqrt(v) * root + eps);
  }
};

}  // namespace updates

/// adam: Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1), eps as in torch.optim.Adam.
///
///   g <- g + lambda p                       (or p <- p (1 - lr lambda) where decoupled)
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   p <- p - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)
///
/// t counts the parameter's own updates. Slots: "exp_avg" (m), "exp_avg_sq" (v).
class Adam : public FormulaOptimizer<Adam, AdamOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "adam";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}, {"exp_avg_sq"}}; }

  template <class T>
  static updates::adam<T> formula(const Options& o, int64_t t) {
    const bool decoupled = o.decoupled_weight_decay;
    return {.step = T(o.lr / (1 - std::pow(o.betas[0], double(t)))),
            .root = T(1 / std::sqrt(1 - std::pow(o.betas[1], double(t)))),
            .eps = T(o.eps),
            .l2 = T(decoupled ? 0 : o.weight_decay),
            .shrink = T(decoupled ? 1 - o.lr * o.weight_decay : 1),
            .averages = kernels::updates::moments_of<T>(o.betas)};
  }
};

inline std::unique_ptr<Optimizer> make_adam(const auto& groups, const Hyper& hyper) {
  return two_groups<Adam>(groups, hyper);
}

}  // namespace weft::optim
