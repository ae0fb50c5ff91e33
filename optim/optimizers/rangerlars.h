// RangerLars, also called Over9000: Ralamb in Lookahead.
#pragma once

#include <array>

#include "weft/optim/optimizers/lookahead.h"
#include "weft/optim/optimizers/ralamb.h"

namespace weft::optim {

struct RangerLarsOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;
  TrustRatio trust_ratio = TrustRatio::published;
  int64_t k = 6;       ///< of Lookahead
  double alpha = 0.5;  ///< of Lookahead
  bool lazy = true;    ///< of Lookahead: over9000's slow weights start at the first synchronisation

  /// What of it is Ralamb's and what Lookahead's.
  operator RalambOptions() const {
    return {.lr = lr, .betas = betas, .eps = eps, .weight_decay = weight_decay, .trust_ratio = trust_ratio};
  }
  operator LookaheadOptions() const { return {.k = k, .alpha = alpha, .lazy = lazy}; }
};

/// lessw2020's corrected version, https://github.com/lessw2020/mish, rangerlars.py: `auto o =
/// kRangerLarsFixed; o.lr = 1e-2;`
inline constexpr RangerLarsOptions kRangerLarsFixed{
    .trust_ratio = TrustRatio::intended, .k = 5, .lazy = false};

/// rangerlars: RangerLars, also called Over9000, as published in https://github.com/mgrankin/over9000.
///
///   Ralamb inside Lookahead with k 6 and alpha 0.5, whose slow weights start at the first synchronisation
///
/// The form that made the table of over9000; its trust ratio is not the intended one (see ralamb).
class RangerLars : public InLookahead<Ralamb, RangerLarsOptions> {
 public:
  using InLookahead::InLookahead;
  const char* name() const override { return "rangerlars"; }
  bool by_formula() const override { return is_just<RangerLars>() && inner().by_formula(); }
};

inline std::unique_ptr<Optimizer> make_rangerlars(const auto& groups, const Hyper& hyper) {
  return two_groups<RangerLars>(groups, hyper);
}

/// rangerlars-fixed: RangerLars as intended, https://github.com/lessw2020/mish, rangerlars.py.
///
///   Ralamb with the step's norm in the trust ratio (ralamb-fixed) inside Lookahead with k 5 and alpha 0.5,
///   whose slow weights start as the initial ones
inline std::unique_ptr<Optimizer> make_rangerlars_fixed(const auto& groups, const Hyper& hyper) {
  return two_groups<RangerLars>(groups, hyper, kRangerLarsFixed);
}

}  // namespace weft::optim
