// AMSGrad: Adam whose second moment never falls.
#pragma once

#include <array>

#include "weft/optim/optimizers/adam.h"

namespace weft::optim {

struct AMSGradOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;              ///< lambda
  bool decoupled_weight_decay = false;  ///< true: as AdamW
};

namespace updates {

template <class T>
struct amsgrad {
  static constexpr const char* kName = "amsgrad";
  static constexpr int kSlots = 3;
  adam<T> of_adam;  // its scalars

  WEFT_HD void operator()(T& p, T g, T& m, T& v, T& highest) const {
    const adam<T>& a = of_adam;
    const T d = g + a.l2 * p;
    a.averages.advance(d, m, v);
    highest = highest > v ? highest : v;
    p = p * a.shrink - a.step * m / (kernels::math::sqrt(highest) * a.root + a.eps);
  }
};

}  // namespace updates

/// amsgrad: AMSGrad (Reddi, Kale & Kumar 2018, https://arxiv.org/abs/1904.09237, algorithm 2) as
/// torch.optim.Adam with amsgrad=True.
///
///   g <- g + lambda p,  m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,  h <- max(h, v)
///   p <- p - lr / (1 - beta1^t) * m / (sqrt(h / (1 - beta2^t)) + eps)
///
/// The maximum is of v before the debiasing, which the paper has not. Slots: "exp_avg" (m), "exp_avg_sq" (v),
/// "max_exp_avg_sq" (h).
class AMSGrad : public FormulaOptimizer<AMSGrad, AMSGradOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "amsgrad";
  static std::vector<Slot> state_slots(const Options&) {
    return {{"exp_avg"}, {"exp_avg_sq"}, {"max_exp_avg_sq"}};
  }

  template <class T>
  static updates::amsgrad<T> formula(const Options& o, int64_t t) {
    return {Adam::formula<T>({.lr = o.lr,
                              .betas = o.betas,
                              .eps = o.eps,
                              .weight_decay = o.weight_decay,
                              .decoupled_weight_decay = o.decoupled_weight_decay},
                             t)};
  }
};

inline std::unique_ptr<Optimizer> make_amsgrad(const auto& groups, const Hyper& hyper) {
  return two_groups<AMSGrad>(groups, hyper);
}

/// amsgradw: AMSGrad with decoupled weight decay, torch.optim.AdamW with amsgrad=True.
///
///   p <- p (1 - lr lambda), then AMSGrad's update without decay in the gradient
inline std::unique_ptr<Optimizer> make_amsgradw(const auto& groups, const Hyper& hyper) {
  return two_groups<AMSGrad>(groups, hyper, {.decoupled_weight_decay = true});
}

}  // namespace weft::optim
