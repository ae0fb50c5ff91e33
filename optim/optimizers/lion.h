// Lion: the sign of a momentum.
#pragma once

#include <array>

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct LionOptions {
  double lr = 1e-4;
  std::array<double, 2> betas = {0.9, 0.99};  ///< of the step, of the average
  double weight_decay = 0;                    ///< lambda, decoupled
};

namespace updates {

template <class T>
struct lion {
  static constexpr const char* kName = "lion";
  static constexpr int kSlots = 1;
  T lr, shrink, beta1, fresh1, beta2, fresh2;  // fresh: 1 - beta

  WEFT_HD void operator()(T& p, T g, T& m) const {
    const T c = beta1 * m + fresh1 * g;
    const T sign = c > 0 ? T(1) : c < 0 ? T(-1) : c;  // 0 and NaN are their own
    p = p * shrink - lr * sign;
    m = beta2 * m + fresh2 * g;
  }
};

}  // namespace updates

/// lion: Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675, program 1).
///
///   p <- p (1 - lr lambda) - lr sign(beta1 m + (1 - beta1) g)
///   m <- beta2 m + (1 - beta2) g
///
/// The paper takes rates 3 to 10 times smaller than AdamW's, with as much more decay. Slot: "exp_avg" (m).
class Lion : public FormulaOptimizer<Lion, LionOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "lion";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}}; }

  template <class T>
  static updates::lion<T> formula(const Options& o, int64_t) {
    return {.lr = T(o.lr),
            .shrink = T(1 - o.lr * o.weight_decay),
            .beta1 = T(o.betas[0]),
            .fresh1 = T(1 - o.betas[0]),
            .beta2 = T(o.betas[1]),
            .fresh2 = T(1 - o.betas[1])};
  }
};

inline std::unique_ptr<Optimizer> make_lion(const auto& groups, const Hyper& hyper) {
  return two_groups<Lion>(groups, hyper);
}

}  // namespace weft::optim
