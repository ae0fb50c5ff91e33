// Adadelta.
#pragma once

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct AdadeltaOptions {
  double lr = 1;  ///< the paper has none
  double rho = 0.9;
  double eps = 1e-6;
  double weight_decay = 0;  ///< lambda
};

namespace updates {

template <class T>
struct adadelta {
  static constexpr const char* kName = "adadelta";
  static constexpr int kSlots = 2;
  T lr, rho, fresh, eps, l2;  // fresh: 1 - rho

  WEFT_HD void operator()(T& p, T g, T& v, T& a) const {
    const T d = g + l2 * p;
    v = rho * v + fresh * d * d;
    const T delta = kernels::math::sqrt(a + eps) / kernels::math::sqrt(v + eps) * d;
    a = rho * a + fresh * delta * delta;
    p -= lr * delta;
  }
};

}  // namespace updates

/// adadelta: Adadelta (Zeiler 2012, https://arxiv.org/abs/1212.5701, algorithm 1) as torch.optim.Adadelta.
///
///   g <- g + lambda p,  v <- rho v + (1 - rho) g^2
///   delta = sqrt(a + eps) / sqrt(v + eps) * g,  a <- rho a + (1 - rho) delta^2
///   p <- p - lr delta
///
/// The first steps are of the size of sqrt(eps): it starts slowly, and a rate of 1 is not large. By name rho
/// is sqrmom. Slots: "square_avg" (v), "acc_delta" (a).
class Adadelta : public FormulaOptimizer<Adadelta, AdadeltaOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "adadelta";
  static std::vector<Slot> state_slots(const Options&) { return {{"square_avg"}, {"acc_delta"}}; }
  static void validate(const Options& o) {
    check(o.rho >= 0 && o.rho <= 1, "adadelta: rho is ", o.rho, "; it must be in [0, 1]");
  }

  template <class T>
  static updates::adadelta<T> formula(const Options& o, int64_t) {
    return {.lr = T(o.lr), .rho = T(o.rho), .fresh = T(1 - o.rho), .eps = T(o.eps), .l2 = T(o.weight_decay)};
  }
};

inline std::unique_ptr<Optimizer> make_adadelta(const auto& groups, const Hyper& hyper) {
  return two_groups<Adadelta>(groups, hyper, {.rho = hyper.sqrmom});
}

}  // namespace weft::optim
