#pragma once

#include "weft/kernels/updates/update.h"

namespace weft::kernels::updates {

/// SGD without momentum. See optim/sgd.h.
template <class T>
struct sgd {
  static constexpr const char* kName = "sgd";
  static constexpr int kSlots = 0;
  T lr, l2, shrink;

  WEFT_HD void operator()(T& p, T g) const { p = p * shrink - lr * (g + l2 * p); }
};

/// SGD with the momentum buffer u.
template <class T>
struct sgd_momentum {
  static constexpr const char* kName = "sgd_momentum";
  static constexpr int kSlots = 1;
  T lr, mu, fresh, ahead, l2, shrink;  // fresh: the weight of g in the buffer; ahead: Nesterov's mu
  bool nesterov;

  WEFT_HD void operator()(T& p, T g, T& u) const {
    const T d = g + l2 * p;
    u = mu * u + fresh * d;
    p = p * shrink - lr * (nesterov ? d + ahead * u : u);
  }
};

}  // namespace weft::kernels::updates
