#pragma once

#include <array>

#include "weft/kernels/host_device.h"

namespace weft::kernels::updates {

/// The two moving averages of Adam and its kin: m of the gradients, v of their squares.
template <class T>
struct moments {
  T beta1, fresh1, beta2, fresh2;  // fresh: 1 - beta

  WEFT_HD void advance(T g, T& m, T& v) const {
    m = beta1 * m + fresh1 * g;
    v = beta2 * v + fresh2 * g * g;
  }
};
template <class T>
moments<T> moments_of(const std::array<double, 2>& betas) {
  return {T(betas[0]), T(1 - betas[0]), T(betas[1]), T(1 - betas[1])};
}

}  // namespace weft::kernels::updates
