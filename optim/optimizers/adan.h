// Adan: Nesterov momentum within Adam, by the difference of gradients.
#pragma once

#include <array>
#include <cmath>

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct AdanOptions {
  double lr = 1e-3;
  std::array<double, 3> betas = {0.98, 0.92, 0.99};  ///< of gradients, of their differences, of squares
  double eps = 1e-8;
  double weight_decay = 0;  ///< lambda
  bool no_prox = false;     ///< decay as AdamW's, before the step; else the proximal form, after it
};

namespace updates {

template <class T>
struct adan {
  static constexpr const char* kName = "adan";
  static constexpr int kSlots = 4;
  T step, step_diff, root, eps, before, after;  // of p: before and after the step
  T beta1, fresh1, beta2, fresh2, beta3, fresh3;

  WEFT_HD void operator()(T& p, T g, T& m, T& n, T& v, T& negative) const {
    // The negative of the previous gradient: +0 is left to say that there was none, and then the difference
    // is 0.
    const T change = negative == 0 && !std::signbit(negative) ? T(0) : g + negative;
    negative = g == 0 ? -T(0) : -g;
    m = beta1 * m + fresh1 * g;
    v = beta2 * v + fresh2 * change;
    const T ahead = g + beta2 * change;
    n = beta3 * n + fresh3 * ahead * ahead;
    p = (p * before - (step * m + step_diff * v) / (kernels::math::sqrt(n) * root + eps)) * after;
  }
};

}  // namespace updates

/// adan: Adan (Xie et al. 2022, https://arxiv.org/abs/2208.06677, algorithm 1), as in the authors'
/// https://github.com/sail-sg/Adan, whose betas are 1 minus the paper's. With d = g_t - g_(t-1), 0 at first:
///
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) d
///   n <- beta3 n + (1 - beta3) (g + beta2 d)^2
///   u = (m / (1 - beta1^t) + beta2 v / (1 - beta2^t)) / (sqrt(n / (1 - beta3^t)) + eps)
///   p <- (p - lr u) / (1 + lr lambda)
///
/// By name the first beta is the momentum, the second stays 0.92. Slots: "exp_avg" (m), "exp_avg_sq" (n),
/// "exp_avg_diff" (v), "neg_pre_grad".
class Adan : public FormulaOptimizer<Adan, AdanOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "adan";
  static std::vector<Slot> state_slots(const Options&) {
    return {{"exp_avg"}, {"exp_avg_sq"}, {"exp_avg_diff"}, {"neg_pre_grad"}};
  }

  template <class T>
  static updates::adan<T> formula(const Options& o, int64_t t) {
    const auto debias = [&](size_t i) { return 1 - std::pow(o.betas[i], double(t)); };
    return {.step = T(o.lr / debias(0)),
            .step_diff = T(o.lr * o.betas[1] / debias(1)),
            .root = T(1 / std::sqrt(debias(2))),
            .eps = T(o.eps),
            .before = T(o.no_prox ? 1 - o.lr * o.weight_decay : 1),
            .after = T(o.no_prox ? 1 : 1 / (1 + o.lr * o.weight_decay)),
            .beta1 = T(o.betas[0]),
            .fresh1 = T(1 - o.betas[0]),
            .beta2 = T(o.betas[1]),
            .fresh2 = T(1 - o.betas[1]),
            .beta3 = T(o.betas[2]),
            .fresh3 = T(1 - o.betas[2])};
  }
};

inline std::unique_ptr<Optimizer> make_adan(const auto& groups, const Hyper& hyper) {
  return two_groups<Adan>(groups, hyper, {}, [&](AdanOptions& o, bool) {
    o.betas = {hyper.mom, AdanOptions{}.betas[1], hyper.sqrmom};
  });
}

}  // namespace weft::optim
