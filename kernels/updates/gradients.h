// What is done to gradients before the update: clipping (optim/clip.h) and loss scaling
// (optim/grad_scaler.h).
#pragma once

#include <cstdint>
#include <limits>

#include "weft/kernels/host_device.h"
#include "weft/kernels/math.h"

namespace weft::kernels::updates {

template <class T>
WEFT_HD bool is_finite(T x) {
  return math::abs(x) <= std::numeric_limits<T>::max();
}

/// x held between -limit and limit; NaN stays.
template <class T>
WEFT_HD T clip_value(T x, T limit) {
  return x > limit ? limit : x < -limit ? -limit : x;
}

/// Divides an element of a gradient by the scale; whether it was finite.
template <class T>
WEFT_HD bool unscale(T& g, T inverse) {
  const bool finite = is_finite(g);
  g *= inverse;
  return finite;
}

/// How many optimizers one loss scale can serve.
constexpr int kScaledOptimizers = 16;

/// How the scale follows what was found.
struct LossScaleRule {
  double growth_factor = 2, backoff_factor = 0.5;
  int64_t growth_interval = 2000;

  /// After a step. found [kScaledOptimizers]: 1 where a gradient of that optimizer was not finite, which is
  /// taken back; left_out, likewise: its steps with `found`; tracker: the steps since there was one or since
  /// the scale grew; skipped: what was added to left_out. As PyTorch's _amp_update_scale_: a scale that would
  /// become infinite stays.
  WEFT_HD void after_step(float& scale, float* found, int64_t* left_out, int64_t& tracker,
                          int64_t& skipped) const {
    const int64_t before = skipped;
    for (int i = 0; i < kScaledOptimizers; ++i)
      if (found[i] != 0) found[i] = 0, ++left_out[i], ++skipped;
    if (skipped != before) {
      scale = float(double(scale) * backoff_factor);
      tracker = 0;
    } else if (++tracker >= growth_interval) {
      const float grown = float(double(scale) * growth_factor);
      if (is_finite(grown)) scale = grown;
      tracker = 0;
    }
  }
};

}  // namespace weft::kernels::updates
