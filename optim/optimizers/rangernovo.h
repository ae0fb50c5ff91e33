// RangerNovo: NovoGrad in Lookahead.
#pragma once

#include <array>

#include "weft/optim/optimizers/lookahead.h"
#include "weft/optim/optimizers/novograd.h"

namespace weft::optim {

struct RangerNovoOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.95, 0.98};
  double eps = 1e-8;
  double weight_decay = 0;
  bool grad_averaging = false;  ///< of NovoGrad
  int64_t k = 6;                ///< of Lookahead
  double alpha = 0.5;           ///< of Lookahead

  /// What of it is NovoGrad's and what Lookahead's.
  operator NovoGradOptions() const {
    return {.lr = lr,
            .betas = betas,
            .eps = eps,
            .weight_decay = weight_decay,
            .grad_averaging = grad_averaging,
            .restart_at_zero = true};
  }
  operator LookaheadOptions() const { return {.k = k, .alpha = alpha}; }
};

/// rangernovo: RangerNovo, a name in the training scripts of https://github.com/lessw2020 of 2019.
///
///   NovoGrad in over9000's form (novograd-over9000) inside Lookahead with k 6 and alpha 0.5, whose slow
///   weights start as the initial ones
///
/// Its own file has not survived; this is what its name and its siblings say.
class RangerNovo : public InLookahead<NovoGrad, RangerNovoOptions> {
 public:
  using InLookahead::InLookahead;
  const char* name() const override { return "rangernovo"; }
  bool by_formula() const override { return is_just<RangerNovo>() && inner().by_formula(); }
};

inline std::unique_ptr<Optimizer> make_rangernovo(const auto& groups, const Hyper& hyper) {
  return two_groups<RangerNovo>(groups, hyper);
}

}  // namespace weft::optim
