// AdaMod: Adam whose rates are bounded by their own average.
#pragma once

#include <array>
#include <cmath>

#include "weft/kernels/updates/moments.h"
#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct AdaModOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double beta3 = 0.999;  ///< of the average of the rates
  double eps = 1e-8;
  double weight_decay = 0;  ///< lambda, decoupled
};

namespace updates {

template <class T>
struct adamod {
  static constexpr const char* kName = "adamod";
  static constexpr int kSlots = 3;
  T step, eps, shrink;  // step: lr sqrt(1 - beta2^t) / (1 - beta1^t)
  kernels::updates::moments<T> averages;
  T beta3, fresh3;

  WEFT_HD void operator()(T& p, T g, T& m, T& v, T& s) const {
    averages.advance(g, m, v);
    const T rate = step / (kernels::math::sqrt(v) + eps);
    s = beta3 * s + fresh3 * rate;
    p = p * shrink - (s < rate ? s : rate) * m;
  }
};

}  // namespace updates

/// adamod: AdaMod (Ding et al. 2019, https://arxiv.org/abs/1910.12249, algorithm 1), with decoupled decay as
/// in the authors' https://github.com/lancopku/AdaMod and in over9000.
///
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   rate = lr sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps)
///   s <- beta3 s + (1 - beta3) rate
///   p <- p (1 - lr lambda) - min(rate, s) m
///
/// s starts at 0 and is not debiased: the first steps are small. Slots: "exp_avg" (m), "exp_avg_sq" (v),
/// "exp_avg_lr" (s).
class AdaMod : public FormulaOptimizer<AdaMod, AdaModOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "adamod";
  static std::vector<Slot> state_slots(const Options&) {
    return {{"exp_avg"}, {"exp_avg_sq"}, {"exp_avg_lr"}};
  }
  static void validate(const Options& o) {
    check(o.beta3 >= 0 && o.beta3 < 1, "adamod: beta3 is ", o.beta3, "; it must be in [0, 1)");
  }

  template <class T>
  static updates::adamod<T> formula(const Options& o, int64_t t) {
    const double root = std::sqrt(1 - std::pow(o.betas[1], double(t)));
    return {.step = T(o.lr * root / (1 - std::pow(o.betas[0], double(t)))),
            .eps = T(o.eps),
            .shrink = T(1 - o.lr * o.weight_decay),
            .averages = kernels::updates::moments_of<T>(o.betas),
            .beta3 = T(o.beta3),
            .fresh3 = T(1 - o.beta3)};
  }
};

inline std::unique_ptr<Optimizer> make_adamod(const auto& groups, const Hyper& hyper) {
  return two_groups<AdaMod>(groups, hyper);
}

}  // namespace weft::optim
