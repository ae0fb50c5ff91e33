// Ranger: RAdam in Lookahead.
#pragma once

#include <array>

#include "weft/optim/optimizers/lookahead.h"
#include "weft/optim/optimizers/radam.h"

namespace weft::optim {

struct RangerOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.95, 0.999};
  double eps = 1e-5;
  double weight_decay = 0;  ///< decoupled: p <- p (1 - lr weight_decay) before the step
  int64_t k = 6;            ///< updates between two synchronisations of Lookahead
  double alpha = 0.5;       ///< of Lookahead
  double threshold = 5;     ///< of RAdam

  /// What of it is RAdam's and what Lookahead's.
  operator RAdamOptions() const {
    return {.lr = lr,
            .betas = betas,
            .eps = eps,
            .weight_decay = weight_decay,
            .decoupled_weight_decay = true,
            .threshold = threshold};
  }
  operator LookaheadOptions() const { return {.k = k, .alpha = alpha}; }
};

/// ranger: Ranger 9.3.19 (Less Wright, https://github.com/lessw2020/Ranger-Mish-ImageWoof-5, ranger.py).
///
///   RAdam with decoupled weight decay, rectified where rho_t > 5, inside Lookahead with k 6 and alpha 0.5,
///   the slow weights starting as the initial ones
///
/// The optimizer of the ImageWoof records of 2019, there with lr 4e-3, betas 0.95 and 0.99, eps 1e-6 and
/// weight decay 1e-2.
class Ranger : public InLookahead<RAdam, RangerOptions> {
 public:
  using InLookahead::InLookahead;
  const char* name() const override { return "ranger"; }
};

inline std::unique_ptr<Optimizer> make_ranger(const DecayGroups& groups, const Hyper& hyper) {
  return two_groups<Ranger>(groups, hyper);
}

}  // namespace weft::optim
