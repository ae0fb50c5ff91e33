#pragma once

#include "weft/kernels/updates/update.h"

namespace weft::kernels::updates {

/// Ralamb, with the moments m and v. See optim/ralamb.h, which calls the two forms of the trust ratio
/// published and intended.
template <class T>
struct ralamb {
  static constexpr const char* kName = "ralamb";
  static constexpr int kSlots = 2, kSums = 2;
  bool adaptive, published;
  double lr;
  T size, eps;                     // of RAdam, without lr
  T shrink, decay;                 // of the weights before the step (published), within it (intended)
  T of_p, of_d;                    // the divisor: p - lr d as published, d + decay p as intended
  T beta1, fresh1, beta2, fresh2;  // fresh: 1 - beta
  T rate;                          // lr times the trust ratio, set by finish()

  WEFT_HD void advance(T g, T& m, T& v) const {
    m = beta1 * m + fresh1 * g;
    v = beta2 * v + fresh2 * g * g;
  }
  WEFT_HD void terms(T p, T, T m, T v, T* terms) const {
    terms[0] = p * shrink;
    terms[1] = of_p * terms[0] + of_d * direction(m, v);
  }
  WEFT_HD void finish(const double* squares, double*) {
    rate = T(lr * trust(math::sqrt(squares[0]), math::sqrt(squares[1])));
  }
  WEFT_HD void operator()(T& p, T, T& m, T& v) const {
    const T w = p * shrink;
    p = w - rate * (direction(m, v) + decay * w);
  }

 private:
  WEFT_HD T direction(T m, T v) const { return size * m / (adaptive ? math::sqrt(v) + eps : T(1)); }
  /// The trust ratio from the norms; NaN goes through.
  WEFT_HD double trust(double weights, double divisor) const {
    if (published && weights > 10) weights = 10;
    if (weights == 0 || divisor == 0) return 1;
    const double ratio = weights / divisor;
    return !published && ratio > 10 ? 10 : ratio;
  }
};

}  // namespace weft::kernels::updates
