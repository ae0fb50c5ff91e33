#pragma once

#include "weft/kernels/updates/update.h"

namespace weft::kernels::updates {

/// LARS, with the momentum buffer u. See optim/lars.h.
template <class T>
struct lars {
  static constexpr const char* kName = "lars";
  static constexpr int kSlots = 1, kSums = 2;
  bool adapt, clip;
  double lr, trust, weight_decay;
  T mu, decay;
  T rate;  // lr where the layer does not adapt it; else set by finish()

  WEFT_HD bool needs_sums() const { return adapt; }
  WEFT_HD void terms(T p, T g, T, T* terms) const { terms[0] = p, terms[1] = g; }
  WEFT_HD void finish(const double* squares, double*) {
    const double p = math::sqrt(squares[0]), g = math::sqrt(squares[1]);
    double ratio = 1;
    if (p != 0 && g != 0) ratio = trust * p / (g + weight_decay * p);
    if (clip && ratio > 1) ratio = 1;
    rate = T(lr * ratio);
  }
  WEFT_HD void operator()(T& p, T g, T& u) const {
    u = mu * u + rate * (g + decay * p);
    p -= u;
  }
};

}  // namespace weft::kernels::updates
