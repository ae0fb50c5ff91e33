// AdamW: Adam with decoupled weight decay.
#pragma once

#include <array>

#include "weft/optim/optimizers/adam.h"

namespace weft::optim {

struct AdamWOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 1e-2;  ///< lambda

  /// The same, as Adam takes them.
  operator AdamOptions() const {
    return {
        .lr = lr, .betas = betas, .eps = eps, .weight_decay = weight_decay, .decoupled_weight_decay = true};
  }
};

/// adamw: AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101, algorithm 2), with PyTorch's
/// defaults.
///
///   p <- p (1 - lr lambda), then Adam's update without decay in the gradient
///
/// Slots: "exp_avg", "exp_avg_sq".
class AdamW : public FormulaOptimizer<AdamW, AdamWOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "adamw";
  static std::vector<Slot> state_slots(const Options& o) { return Adam::state_slots(o); }

  template <class T>
  static updates::adam<T> formula(const Options& o, int64_t t) {
    return Adam::formula<T>(o, t);
  }
};

inline std::unique_ptr<Optimizer> make_adamw(const auto& groups, const Hyper& hyper) {
  return two_groups<AdamW>(groups, hyper);
}

}  // namespace weft::optim
