#pragma once

#include "weft/kernels/updates/update.h"

namespace weft::kernels::updates {

/// Adam and AdamW, with the moments m and v. See optim/adam.h.
template <class T>
struct adam {
  static constexpr const char* kName = "adam";
  static constexpr int kSlots = 2;
  T step, root, eps, l2, shrink;   // step: lr / (1 - beta1^t); root: 1 / sqrt(1 - beta2^t)
  T beta1, fresh1, beta2, fresh2;  // fresh: 1 - beta

  WEFT_HD void operator()(T& p, T g, T& m, T& v) const {
    const T d = g + l2 * p;
    m = beta1 * m + fresh1 * d;
    v = beta2 * v + fresh2 * d * d;
    p = p * shrink - step * m / (math::sqrt(v) * root + eps);
  }
};

}  // namespace weft::kernels::updates
