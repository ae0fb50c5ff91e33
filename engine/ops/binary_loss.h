// Losses of independent yes-or-no questions: one logit each, targets the probability of a yes, mostly 0 or 1.
#pragma once

#include "weft/engine/ops/reduction.h"
#include "weft/engine/tensor.h"

namespace weft {

struct BinaryCrossEntropyOptions {
  Tensor weight = {};      ///< of the elements' losses; stretches to the logits' shape. Undefined: 1
  Tensor pos_weight = {};  ///< of the yes part, mostly one for each class; stretches likewise. Undefined: 1
  Reduction reduction = Reduction::mean;
};

/// -(pos_weight y log sigmoid(x) + (1 - y) log sigmoid(-x)) for logits x and targets y of one shape, times
/// weight. Exact for logits of any finite size; an infinite logit gives inf or NaN, as in PyTorch. A mean
/// divides by the number of elements, whatever the weights.
Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target,
                                        const BinaryCrossEntropyOptions& options = {});

struct SigmoidFocalOptions {
  double alpha = 0.25;  ///< share of the yes part, 1 - alpha that of the no; negative: no such weights
  double gamma = 2;     ///< 0 is plain cross entropy
  Reduction reduction = Reduction::none;
};

/// alpha_t (1 - p_t)^gamma times binary cross entropy, where p = sigmoid(x), p_t = p y + (1 - p)(1 - y) and
/// alpha_t = alpha y + (1 - alpha)(1 - y): Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017,
/// with the defaults of torchvision's sigmoid_focal_loss.
Tensor sigmoid_focal_loss(const Tensor& x, const Tensor& target, const SigmoidFocalOptions& options = {});

}  // namespace weft
