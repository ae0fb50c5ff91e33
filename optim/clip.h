// Gradient clipping.
#pragma once

#include <vector>

#include "weft/engine/module.h"

namespace weft::optim {

struct ClipOptions {
  /// Throw Error where the norm is NaN or infinite, instead of scaling by it.
  bool error_if_nonfinite = false;
};

/// Scales all gradients so that their norm, taken over all of them together, is at most `max_norm`, and
/// returns the norm that they had. As torch.nn.utils.clip_grad_norm_: the factor is min(1, max_norm / (norm +
/// 1e-6)). Parameters without a gradient are passed over. The sum of squares is in double, in a fixed order.
/// On the GPU it waits for the result.
double clip_grad_norm_(const std::vector<Parameter>& parameters, double max_norm,
                       const ClipOptions& options = {});

/// The same without a result, and so without waiting for the GPU: it can be captured. A graph keeps
/// `max_norm`.
void clip_grad_norm_async_(const std::vector<Parameter>& parameters, double max_norm);

/// Clamps every element of every gradient to [-limit, limit]; NaN stays. As torch.nn.utils.clip_grad_value_.
void clip_grad_value_(const std::vector<Parameter>& parameters, double limit);

}  // namespace weft::optim
