// AdaBelief: Adam that trusts a gradient by how near it is to its prediction.
#pragma once

#include <array>
#include <cmath>

#include "weft/optim/optimizers/radam.h"

namespace weft::optim {

struct AdaBeliefOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-16;
  double weight_decay = 0;             ///< lambda
  bool decoupled_weight_decay = true;  ///< false: added to the gradient
  bool rectify = false;                ///< RAdam's step sizes; adabelief-pytorch since 0.1: true
};

namespace updates {

template <class T>
struct adabelief {
  static constexpr const char* kName = "adabelief";
  static constexpr int kSlots = 2;
  bool adaptive;
  T step, root, eps, l2, shrink;   // root: 1 / sqrt(1 - beta2^t), 1 where step has it
  T beta1, fresh1, beta2, fresh2;  // fresh: 1 - beta

  WEFT_HD void operator()(T& p, T g, T& m, T& s) const {
    const T d = g + l2 * p;
    m = beta1 * m + fresh1 * d;
    s = beta2 * s + fresh2 * (d - m) * (d - m) + eps;
    p = p * shrink - step * m / (adaptive ? kernels::math::sqrt(s) * root + eps : T(1));
  }
};

}  // namespace updates

/// adabelief: AdaBelief (Zhuang et al. 2020, https://arxiv.org/abs/2010.07468, algorithm 2), with decoupled
/// decay.
///
///   p <- p (1 - lr lambda)
///   m <- beta1 m + (1 - beta1) g,  s <- beta2 s + (1 - beta2) (g - m)^2 + eps
///   p <- p - lr m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps)
///
/// eps is added into s in every update, so it adds up to eps / (1 - beta2). Slots: "exp_avg" (m),
/// "exp_avg_var" (s).
class AdaBelief : public FormulaOptimizer<AdaBelief, AdaBeliefOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "adabelief";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}, {"exp_avg_var"}}; }

  template <class T>
  static updates::adabelief<T> formula(const Options& o, int64_t t) {
    const RAdamStep rectified = radam_step(t, o.betas);
    const double plain = 1 / (1 - std::pow(o.betas[0], double(t)));
    return {.adaptive = !o.rectify || rectified.adaptive,
            .step = T(o.lr * (o.rectify ? rectified.size : plain)),
            .root = T(o.rectify ? 1 : 1 / std::sqrt(1 - std::pow(o.betas[1], double(t)))),
            .eps = T(o.eps),
            .l2 = T(o.decoupled_weight_decay ? 0 : o.weight_decay),
            .shrink = T(o.decoupled_weight_decay ? 1 - o.lr * o.weight_decay : 1),
            .beta1 = T(o.betas[0]),
            .fresh1 = T(1 - o.betas[0]),
            .beta2 = T(o.betas[1]),
            .fresh2 = T(1 - o.betas[1])};
  }
};

inline std::unique_ptr<Optimizer> make_adabelief(const auto& groups, const Hyper& hyper) {
  return two_groups<AdaBelief>(groups, hyper);
}

/// adabelief-rectified: AdaBelief with the step sizes of RAdam, the default of the authors' package
/// adabelief-pytorch since 0.1 (https://github.com/juntang-zhuang/Adabelief-Optimizer) and so of over9000.
///
///   where RAdam is not adaptive yet: p <- p - lr m / (1 - beta1^t), else p <- p - lr size m / (sqrt(s) +
///   eps)
inline std::unique_ptr<Optimizer> make_adabelief_rectified(const auto& groups, const Hyper& hyper) {
  return two_groups<AdaBelief>(groups, hyper, {.rectify = true});
}

}  // namespace weft::optim
