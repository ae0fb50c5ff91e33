// Losses of the distance between an input and a target of one shape. Both may want a gradient.
#pragma once

#include "weft/engine/ops/reduction.h"
#include "weft/engine/tensor.h"

namespace weft {

/// |x - target|.
Tensor l1_loss(const Tensor& x, const Tensor& target, Reduction reduction = Reduction::mean);
/// With d = |x - target|: d^2 / 2 up to delta, delta (d - delta / 2) beyond (Huber, "Robust Estimation of a
/// Location Parameter", 1964). delta must be above 0.
Tensor huber_loss(const Tensor& x, const Tensor& target, double delta = 1,
                  Reduction reduction = Reduction::mean);
/// huber_loss / beta, so that its slope is 1 far out (Girshick, "Fast R-CNN", ICCV 2015, where beta is 1);
/// l1_loss for beta = 0.
Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, double beta = 1,
                      Reduction reduction = Reduction::mean);

}  // namespace weft
