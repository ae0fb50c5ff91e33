#pragma once

#include <cmath>

#include "weft/kernels/updates/update.h"

namespace weft::kernels::updates {

/// NovoGrad, with the moment m and, as a scalar, the second moment v of the layer. See optim/novograd.h.
template <class T>
struct novograd {
  static constexpr const char* kName = "novograd";
  static constexpr int kSlots = 1, kSums = 1;
  bool first, restart_at_zero;
  double beta2, eps;
  T lr, beta1, fresh, decay;  // fresh: the weight of the new term in m
  T scale;                    // 1 / (sqrt(v) + eps), set by finish()

  WEFT_HD void terms(T, T g, T, T* terms) const { terms[0] = g; }
  WEFT_HD void finish(const double* squares, double* v) {
    const bool start = restart_at_zero ? *v == 0 : first || std::signbit(*v);
    *v = start ? squares[0] : beta2 * *v + (1 - beta2) * squares[0];
    scale = T(1 / (math::sqrt(*v) + eps));
  }
  /// The first update was left out: a negative zero lets the next one be the first.
  WEFT_HD void skipped(double* v) const {
    if (first) *v = -0.0;
  }
  WEFT_HD void operator()(T& p, T g, T& m) const {
    m = beta1 * m + fresh * (g * scale + decay * p);
    p -= lr * m;
  }
};

}  // namespace weft::kernels::updates
