// NovoGrad: one second moment for each layer.
#pragma once

#include <array>
#include <cmath>

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct NovoGradOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.95, 0.98};  ///< the paper's; over9000: 0.95, 0, and 0.9, 0.99 in its table
  double eps = 1e-8;
  double weight_decay = 0;      ///< lambda
  bool grad_averaging = false;  ///< the new term of m gets the factor 1 - beta1
  /// Over9000: v is set to |g|^2 whenever it is 0, not at the first update only.
  bool restart_at_zero = false;
};

namespace updates {

/// v is the scalar slot.
template <class T>
struct novograd {
  static constexpr const char* kName = "novograd";
  static constexpr int kSlots = 1, kSums = 1;
  bool first, restart_at_zero;
  double beta2, eps;
  T lr, beta1, fresh, decay;  // fresh: the weight of the new term in m
  T scale;                    // 1 / (sqrt(v) + eps), set by finish()

  WEFT_HD void terms(T, T g, T, T* terms) const { terms[0] = g; }
  WEFT_HD void finish(const double* squares, double* v) {
    const bool start = restart_at_zero ? *v == 0 : first || std::signbit(*v);
    *v = start ? squares[0] : beta2 * *v + (1 - beta2) * squares[0];
    scale = T(1 / (kernels::math::sqrt(*v) + eps));
  }
  /// The first update was left out: a negative zero lets the next one be the first.
  WEFT_HD void skipped(double* v) const {
    if (first) *v = -0.0;
  }
  WEFT_HD void operator()(T& p, T g, T& m) const {
    m = beta1 * m + fresh * (g * scale + decay * p);
    p -= lr * m;
  }
};

}  // namespace updates

/// novograd: NovoGrad (Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286, algorithm 1). For each
/// parameter tensor, v a scalar:
///
///   v <- |g|^2 at the first update, then beta2 v + (1 - beta2) |g|^2
///   m <- beta1 m + (g / (sqrt(v) + eps) + lambda p)
///   p <- p - lr m
///
/// Slots: "exp_avg" (m), "exp_avg_sq" (v, always an f64 scalar).
class NovoGrad : public FormulaOptimizer<NovoGrad, NovoGradOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "novograd";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}, {"exp_avg_sq", true}}; }

  template <class T>
  static updates::novograd<T> formula(const Options& o, int64_t t) {
    return {.first = t == 1,
            .restart_at_zero = o.restart_at_zero,
            .beta2 = o.betas[1],
            .eps = o.eps,
            .lr = T(o.lr),
            .beta1 = T(o.betas[0]),
            .fresh = T(o.grad_averaging ? 1 - o.betas[0] : 1),
            .decay = T(o.weight_decay),
            .scale = 0};
  }
};

inline std::unique_ptr<Optimizer> make_novograd(const auto& groups, const Hyper& hyper) {
  return two_groups<NovoGrad>(groups, hyper);
}

/// novograd-over9000: NovoGrad in the form of https://github.com/mgrankin/over9000, novograd.py (from
/// NVIDIA's).
///
///   v <- |g|^2 whenever v is 0, else beta2 v + (1 - beta2) |g|^2
///   m <- beta1 m + (g / (sqrt(v) + eps) + lambda p)
///   p <- p - lr m
///
/// A first gradient of zero does not count as the first here.
inline std::unique_ptr<Optimizer> make_novograd_over9000(const auto& groups, const Hyper& hyper) {
  return two_groups<NovoGrad>(groups, hyper, {.restart_at_zero = true});
}

}  // namespace weft::optim
