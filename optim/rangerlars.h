// RangerLars, also called Over9000: Ralamb in Lookahead.
#pragma once

#include <array>
#include <vector>

#include "weft/optim/lookahead.h"
#include "weft/optim/ralamb.h"

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
};

/// lessw2020's corrected version, https://github.com/lessw2020/mish, rangerlars.py: `auto o =
/// kRangerLarsFixed; o.lr = 1e-2;`
inline constexpr RangerLarsOptions kRangerLarsFixed{
    .trust_ratio = TrustRatio::intended, .k = 5, .lazy = false};

/// RangerLars (https://github.com/mgrankin/over9000): Ralamb inside Lookahead. The defaults are the form that
/// was published and made the table of over9000, whose trust ratio is not the intended one (see Ralamb);
/// kRangerLarsFixed is the intended one.
class RangerLars : public Lookahead {
 public:
  using Options = RangerLarsOptions;

  explicit RangerLars(const std::vector<Parameter>& parameters, const Options& options = {});
  /// Adds a group with options of its own.
  void add_group(const std::vector<Parameter>& parameters, const Options& options = {});
  const char* name() const override { return "rangerlars"; }
};

}  // namespace weft::optim
