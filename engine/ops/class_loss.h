// More losses over classes, beside cross_entropy: of log probabilities, and focal.
#pragma once

#include <optional>

#include "weft/engine/ops/reduction.h"
#include "weft/engine/tensor.h"

namespace weft {

/// [..., classes] with 1 at each label and 0 elsewhere, of i64 labels [...]. Throws Error for a label that is
/// no class; on a GPU, where they are not looked at, its row is all zeros.
Tensor one_hot(const Tensor& labels, int64_t classes, DType dtype = DType::f32);

struct NllLossOptions {
  Tensor weight = {};  ///< [C], of the classes; undefined: 1 for each
  /// Rows with this label count nothing, not even in a mean (in PyTorch that is -100 unless given).
  std::optional<int64_t> ignore_index = {};
  Reduction reduction = Reduction::mean;
};

/// -weight[label] log_p[label] for each row of log probabilities [N, C] (log_softmax) and i64 labels [N]. A
/// mean divides by the sum of the labels' weights.
Tensor nll_loss(const Tensor& log_p, const Tensor& labels, const NllLossOptions& options = {});

struct KlDivOptions {
  bool log_target = false;                ///< the target, too, is logarithms of probabilities
  Reduction reduction = Reduction::mean;  ///< `batchmean` is the divergence as it is defined
};

/// target (log target - x) for log probabilities x, and probabilities of their shape: the terms of the
/// Kullback-Leibler divergence. Where the target is 0 the term is 0.
Tensor kl_div(const Tensor& x, const Tensor& target, const KlDivOptions& options = {});

struct SoftmaxFocalOptions {
  double gamma = 2;                       ///< 0 is cross entropy
  Tensor weight = {};                     ///< alpha: [C], of the classes; undefined: 1 for each
  double label_smoothing = 0;             ///< as in cross_entropy
  Reduction reduction = Reduction::mean;  ///< over the rows, whatever the weights
};

/// -sum_c t_c weight_c (1 - p_c)^gamma log p_c for each row of logits [N, C], p = softmax: Lin et al., "Focal
/// Loss for Dense Object Detection", ICCV 2017, equation 4, for many classes. target: i64 labels [N], or
/// probabilities [N, C], a constant.
Tensor softmax_focal_loss(const Tensor& logits, const Tensor& target,
                          const SoftmaxFocalOptions& options = {});

}  // namespace weft
