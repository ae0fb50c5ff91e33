#pragma once

#include "weft/kernels/updates/update.h"

namespace weft::kernels::updates {

/// Lookahead's synchronisation, with the slow weights. See optim/lookahead.h.
template <class T>
struct lookahead {
  static constexpr const char* kName = "lookahead";
  static constexpr int kSlots = 1;
  static constexpr bool kGradient = false;
  bool start;  // the slow weights start here
  T alpha;

  WEFT_HD void operator()(T& p, T, T& slow) const {
    slow = start ? p : slow + alpha * (p - slow);
    p = slow;
  }
};

}  // namespace weft::kernels::updates
