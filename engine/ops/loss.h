// Softmax and losses.
#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// Over the last dimension.
Tensor softmax(const Tensor& x);
Tensor log_softmax(const Tensor& x);

struct CrossEntropyOptions {
  double label_smoothing = 0;  ///< eps: target = (1 - eps) one_hot + eps / classes
};

/// Mean over the rows of -sum_c target_c log softmax(logits)_c. logits: [N, C]; target: i64 labels [N], or
/// probabilities [N, C] of the logits' dtype (smoothed alike, treated as a constant).
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});
/// Mean of (x - target)^2.
Tensor mse_loss(const Tensor& x, const Tensor& target);

}  // namespace weft
