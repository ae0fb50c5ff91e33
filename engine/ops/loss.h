// Softmax and losses.
#pragma once

#include <optional>

#include "weft/engine/ops/reduction.h"
#include "weft/engine/tensor.h"

namespace weft {

/// Over the last dimension.
Tensor softmax(const Tensor& x);
Tensor log_softmax(const Tensor& x);

struct CrossEntropyOptions {
  double label_smoothing = 0;  ///< eps: target = (1 - eps) one_hot + eps / classes
  Tensor weight = {};          ///< [C], of the classes' terms; undefined: 1 for each
  /// Rows with this label count nothing, not even in a mean (in PyTorch that is -100 unless given).
  std::optional<int64_t> ignore_index = {};
  Reduction reduction = Reduction::mean;
};

/// Mean over the rows of -sum_c weight_c target_c log softmax(logits)_c. logits: [N, C]; target: i64 labels
/// [N], or probabilities [N, C] of the logits' dtype, f32 for 16-bit ones (smoothed alike, treated as a
/// constant). With labels a weighted mean divides by the sum of the labels' weights.
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});
/// (x - target)^2.
Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction = Reduction::mean);

}  // namespace weft
