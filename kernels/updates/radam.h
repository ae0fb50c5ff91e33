#pragma once

#include "weft/kernels/updates/update.h"

namespace weft::kernels::updates {

/// RAdam, with the moments m and v. See optim/radam.h.
template <class T>
struct radam {
  static constexpr const char* kName = "radam";
  static constexpr int kSlots = 2;
  bool adaptive;
  T step, eps, l2, shrink;         // step: lr size
  T beta1, fresh1, beta2, fresh2;  // fresh: 1 - beta

  WEFT_HD void operator()(T& p, T g, T& m, T& v) const {
    const T d = g + l2 * p;
    m = beta1 * m + fresh1 * d;
    v = beta2 * v + fresh2 * d * d;
    p = p * shrink - step * m / (adaptive ? math::sqrt(v) + eps : T(1));
  }
};

}  // namespace weft::kernels::updates
