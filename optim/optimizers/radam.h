// RAdam: Adam that waits for its second moment to be trustworthy.
#pragma once

#include <array>
#include <cmath>

#include "weft/kernels/updates/moments.h"
#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct RAdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;              ///< lambda
  bool decoupled_weight_decay = false;  ///< PyTorch: false; the authors' code: true
  double threshold = 5;                 ///< of rho_t; the paper: 4; the authors' code and PyTorch: 5
};

/// What RAdam multiplies its direction by at update t.
struct RAdamStep {
  bool adaptive = false;  ///< the direction: m / (sqrt(v) + eps) if true, else m
  double size = 0;        ///< without the learning rate
};

/// rho_inf = 2 / (1 - beta2) - 1,  rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t).  Where rho_t > threshold:
///   size = sqrt((1 - beta2^t) (rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))
///          / (1 - beta1^t),
/// else size = 1 / (1 - beta1^t). It depends on nothing but its arguments: the authors' code kept it, with
/// the learning rate in it, from one parameter group to the next
/// (https://github.com/LiyuanLucasLiu/RAdam/issues/24).
inline RAdamStep radam_step(int64_t t, const std::array<double, 2>& betas, double threshold = 5) {
  const double beta2_t = std::pow(betas[1], double(t)), debias = 1 - std::pow(betas[0], double(t));
  const double rho_inf = 2 / (1 - betas[1]) - 1;
  const double rho = rho_inf - 2 * double(t) * beta2_t / (1 - beta2_t);
  if (!(rho > threshold)) return {false, 1 / debias};
  const double rectifier = (rho - 4) / (rho_inf - 4) * ((rho - 2) / (rho_inf - 2)) * (rho_inf / rho);
  return {true, std::sqrt((1 - beta2_t) * rectifier) / debias};
}

namespace updates {

template <class T>
struct radam {
  static constexpr const char* kName = "radam";
  static constexpr int kSlots = 2;
  bool adaptive;
  T step, eps, l2, shrink;  // step: lr size
  kernels::updates::moments<T> averages;

  WEFT_HD void operator()(T& p, T g, T& m, T& v) const {
    const T d = g + l2 * p;
    averages.advance(d, m, v);
    p = p * shrink - step * m / (adaptive ? kernels::math::sqrt(v) + eps : T(1));
  }
};

}  // namespace updates

/// radam: RAdam (Liu et al. 2020, https://arxiv.org/abs/1908.03265, algorithm 2), eps outside of the
/// debiasing as in the authors' code and torch.optim.RAdam.
///
///   g <- g + lambda p                       (or p <- p (1 - lr lambda) where decoupled: so by name)
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   p <- p - lr size * (m / (sqrt(v) + eps), or m)     with radam_step(t)
///
/// rho_t is about t at the start, so with threshold 5 the first five updates are plain momentum steps at the
/// full rate. Slots: "exp_avg" (m), "exp_avg_sq" (v).
class RAdam : public FormulaOptimizer<RAdam, RAdamOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "radam";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}, {"exp_avg_sq"}}; }
  static void validate(const Options& o) {
    check(o.threshold >= 4, "radam: threshold is ", o.threshold,
          "; it must be 4 or more, below which the variance has no estimate");
  }

  template <class T>
  static updates::radam<T> formula(const Options& o, int64_t t) {
    const bool decoupled = o.decoupled_weight_decay;
    const RAdamStep step = radam_step(t, o.betas, o.threshold);
    return {.adaptive = step.adaptive,
            .step = T(o.lr * step.size),
            .eps = T(o.eps),
            .l2 = T(decoupled ? 0 : o.weight_decay),
            .shrink = T(decoupled ? 1 - o.lr * o.weight_decay : 1),
            .averages = kernels::updates::moments_of<T>(o.betas)};
  }
};

inline std::unique_ptr<Optimizer> make_radam(const auto& groups, const Hyper& hyper) {
  return two_groups<RAdam>(groups, hyper, {.decoupled_weight_decay = true});
}

}  // namespace weft::optim
