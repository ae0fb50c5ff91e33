// NAdam: Adam with Nesterov's momentum.
#pragma once

#include <array>
#include <cmath>

#include "weft/kernels/updates/moments.h"
#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct NAdamOptions {
  double lr = 2e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;  ///< lambda
  double momentum_decay = 4e-3;
  bool decoupled_weight_decay = false;
};

/// The weights of NAdam's step t: mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), and the products of mu_1 to
/// mu_t and of one more. What is below 1e-20 of a product changes nothing and is left out.
struct NAdamStep {
  double mu = 0, next = 0, product = 1, next_product = 1;
};
inline NAdamStep nadam_step(int64_t t, double beta1, double momentum_decay) {
  const auto mu = [&](int64_t i) { return beta1 * (1 - 0.5 * std::pow(0.96, double(i) * momentum_decay)); };
  NAdamStep step{.mu = mu(t), .next = mu(t + 1)};
  const double ratio = std::pow(0.96, momentum_decay);
  double power = 1;
  for (int64_t i = 1; i <= t && step.product > 1e-20; ++i) {
    power *= ratio;
    step.product *= beta1 * (1 - 0.5 * power);
  }
  step.next_product = step.product * step.next;
  return step;
}

namespace updates {

template <class T>
struct nadam {
  static constexpr const char* kName = "nadam";
  static constexpr int kSlots = 2;
  T of_g, of_m, root, eps, l2, shrink;  // of_g, of_m: the rates of g and m; root: 1 / sqrt(1 - beta2^t)
  kernels::updates::moments<T> averages;

  WEFT_HD void operator()(T& p, T g, T& m, T& v) const {
    const T d = g + l2 * p;
    averages.advance(d, m, v);
    p = p * shrink - (of_g * d + of_m * m) / (kernels::math::sqrt(v) * root + eps);
  }
};

}  // namespace updates

/// nadam: NAdam (Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ) as torch.optim.NAdam.
///
///   g <- g + lambda p                       (or p <- p (1 - lr lambda) where decoupled)
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),  P_t = mu_1 mu_2 ... mu_t
///   p <- p - lr ((1 - mu_t) g / (1 - P_t) + mu_{t+1} m / (1 - P_{t+1})) / (sqrt(v / (1 - beta2^t)) + eps)
///
/// P_t is that of today's beta1: where a schedule changes it, PyTorch multiplies what each step had. Slots:
/// "exp_avg" (m), "exp_avg_sq" (v).
class NAdam : public FormulaOptimizer<NAdam, NAdamOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "nadam";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}, {"exp_avg_sq"}}; }
  static void validate(const Options& o) {
    check(o.momentum_decay >= 0, "nadam: momentum_decay is ", o.momentum_decay, "; it must be 0 or more");
  }

  template <class T>
  static updates::nadam<T> formula(const Options& o, int64_t t) {
    const bool decoupled = o.decoupled_weight_decay;
    const NAdamStep s = nadam_step(t, o.betas[0], o.momentum_decay);
    return {.of_g = T(o.lr * (1 - s.mu) / (1 - s.product)),
            .of_m = T(o.lr * s.next / (1 - s.next_product)),
            .root = T(1 / std::sqrt(1 - std::pow(o.betas[1], double(t)))),
            .eps = T(o.eps),
            .l2 = T(decoupled ? 0 : o.weight_decay),
            .shrink = T(decoupled ? 1 - o.lr * o.weight_decay : 1),
            .averages = kernels::updates::moments_of<T>(o.betas)};
  }
};

inline std::unique_ptr<Optimizer> make_nadam(const auto& groups, const Hyper& hyper) {
  return two_groups<NAdam>(groups, hyper);
}

/// nadamw: NAdam with decoupled weight decay, torch.optim.NAdam with decoupled_weight_decay=True.
///
///   p <- p (1 - lr lambda), then NAdam's update without decay in the gradient
inline std::unique_ptr<Optimizer> make_nadamw(const auto& groups, const Hyper& hyper) {
  return two_groups<NAdam>(groups, hyper, {.decoupled_weight_decay = true});
}

}  // namespace weft::optim
