// LAMB: Adam with a trust ratio for each layer.
#pragma once

#include <array>
#include <cmath>

#include "weft/kernels/updates/moments.h"
#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct LAMBOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-6;
  double weight_decay = 0;     ///< lambda
  bool debias = true;          ///< m and v are divided by 1 - beta^t; over9000: false
  double max_weight_norm = 0;  ///< |p| is held at most here; 0: it is not; over9000: 10
};

namespace updates {

template <class T>
struct lamb {
  static constexpr const char* kName = "lamb";
  static constexpr int kSlots = 2, kSums = 2;
  double lr, max_norm;
  T scale, root, eps, decay;  // scale: 1 / (1 - beta1^t); root: 1 / sqrt(1 - beta2^t)
  kernels::updates::moments<T> averages;
  T rate;  // lr times the trust ratio, set by finish()

  WEFT_HD void advance(T g, T& m, T& v) const { averages.advance(g, m, v); }
  WEFT_HD void terms(T p, T, T m, T v, T* terms) const { terms[0] = p, terms[1] = direction(p, m, v); }
  WEFT_HD void finish(const double* squares, double*) {
    double weights = kernels::math::sqrt(squares[0]);
    const double step = kernels::math::sqrt(squares[1]);
    if (max_norm > 0 && weights > max_norm) weights = max_norm;
    rate = T(weights == 0 || step == 0 ? lr : lr * weights / step);
  }
  WEFT_HD void operator()(T& p, T, T& m, T& v) const { p -= rate * direction(p, m, v); }

 private:
  WEFT_HD T direction(T p, T m, T v) const {
    return scale * m / (kernels::math::sqrt(v) * root + eps) + decay * p;
  }
};

}  // namespace updates

/// lamb: LAMB (You et al. 2019, https://arxiv.org/abs/1904.00962, algorithm 2, with phi(z) = z). For each
/// parameter tensor:
///
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + lambda p
///   p <- p - lr |p| / |r| r                 (the ratio is 1 where either norm is 0)
///
/// Slots: "exp_avg" (m), "exp_avg_sq" (v).
class LAMB : public FormulaOptimizer<LAMB, LAMBOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "lamb";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}, {"exp_avg_sq"}}; }
  static void validate(const Options& o) {
    check(o.max_weight_norm >= 0, "lamb: max_weight_norm is ", o.max_weight_norm, "; it must be 0 or more");
  }

  template <class T>
  static updates::lamb<T> formula(const Options& o, int64_t t) {
    return {.lr = o.lr,
            .max_norm = o.max_weight_norm,
            .scale = T(o.debias ? 1 / (1 - std::pow(o.betas[0], double(t))) : 1),
            .root = T(o.debias ? 1 / std::sqrt(1 - std::pow(o.betas[1], double(t))) : 1),
            .eps = T(o.eps),
            .decay = T(o.weight_decay),
            .averages = kernels::updates::moments_of<T>(o.betas),
            .rate = 0};
  }
};

inline std::unique_ptr<Optimizer> make_lamb(const auto& groups, const Hyper& hyper) {
  return two_groups<LAMB>(groups, hyper);
}

/// lamb-over9000: LAMB as published in https://github.com/mgrankin/over9000, lamb.py (from cybertronai's
/// pytorch-lamb).
///
///   r = m / (sqrt(v) + eps) + lambda p
///   p <- p - lr clamp(|p|, 0, 10) / |r| r
///
/// Without debiasing, after the paper's third version. The clamp at 10 belonged to the trust ratio of the
/// paper's first draft and was put on the weights' norm
/// (https://github.com/cybertronai/pytorch-lamb/issues/5).
inline std::unique_ptr<Optimizer> make_lamb_over9000(const auto& groups, const Hyper& hyper) {
  return two_groups<LAMB>(groups, hyper, {.debias = false, .max_weight_norm = 10});
}

}  // namespace weft::optim
