// Adagrad.
#pragma once

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct AdagradOptions {
  double lr = 1e-2;
  double lr_decay = 0;                   ///< the rate of update t is lr / (1 + (t - 1) lr_decay)
  double weight_decay = 0;               ///< lambda
  double initial_accumulator_value = 0;  ///< what the sum of squares starts at
  double eps = 1e-10;
};

namespace updates {

template <class T>
struct adagrad {
  static constexpr const char* kName = "adagrad";
  static constexpr int kSlots = 1;
  T lr, initial, eps, l2;

  WEFT_HD void operator()(T& p, T g, T& sum) const {
    const T d = g + l2 * p;
    sum += d * d;
    p -= lr * d / (kernels::math::sqrt(sum + initial) + eps);
  }
};

}  // namespace updates

/// adagrad: Adagrad (Duchi, Hazan & Singer 2011, https://jmlr.org/papers/v12/duchi11a.html) as
/// torch.optim.Adagrad.
///
///   g <- g + lambda p,  s <- s + g^2
///   p <- p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)
///
/// Slot: "sum" (s, here without the initial value).
class Adagrad : public FormulaOptimizer<Adagrad, AdagradOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "adagrad";
  static std::vector<Slot> state_slots(const Options&) { return {{"sum"}}; }
  static void validate(const Options& o) {
    check(o.lr_decay >= 0 && o.initial_accumulator_value >= 0,
          "adagrad: lr_decay and initial_accumulator_value must be 0 or more; they are ", o.lr_decay, " and ",
          o.initial_accumulator_value);
  }

  template <class T>
  static updates::adagrad<T> formula(const Options& o, int64_t t) {
    return {.lr = T(o.lr / (1 + double(t - 1) * o.lr_decay)),
            .initial = T(o.initial_accumulator_value),
            .eps = T(o.eps),
            .l2 = T(o.weight_decay)};
  }
};

inline std::unique_ptr<Optimizer> make_adagrad(const auto& groups, const Hyper& hyper) {
  return two_groups<Adagrad>(groups, hyper);
}

}  // namespace weft::optim
