#pragma once

#include <optional>
#include <vector>

#include "weft/engine/ops/channel_stats.h"
#include "weft/kernels/activation.h"

namespace weft {

struct BatchNormOptions {
  double momentum = 0.1;  ///< running = (1 - momentum) running + momentum batch, as PyTorch
  double eps = 1e-5;
  Activation activation = Activation::identity;  ///< applied in the same pass; not one that draws
  std::optional<double> activation_param = {};
};

/// What batch_norm() works on besides its options, for ops that put it together with others.
struct BatchNormInput {
  Tensor x, weight, bias, running_mean, running_var;
  ChannelStats stats = {};
};

/// What batch_norm() works on in evaluation besides its input, for an op that applies it to a result of its
/// own.
struct RunningNorm {
  Tensor weight, bias, running_mean, running_var;
  BatchNormOptions options = {};
  Tensor residual = {};
  std::vector<Tensor> learned = {};
};

/// Batch normalisation over all but the last dimension (Ioffe and Szegedy, 2015), fused with an activation
/// and an addition:
///   y = activation((x - mean) / sqrt(var + eps) * weight + bias (+ residual))
/// x, residual: [..., C]; weight, bias, running_mean, running_var: [C]. In training mean and (biased) var are
/// the batch's, and the running values are updated in place (with the unbiased variance); otherwise they are
/// the running values. `stats`: the batch's mean and biased var, where they are known already; used in
/// training only. `learned`: the parameters of a learned activation, as learned_activation() takes them; none
/// for the others.
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                  const Tensor& running_var, bool training, const BatchNormOptions& options = {},
                  const Tensor& residual = {}, const ChannelStats& stats = {},
                  const std::vector<Tensor>& learned = {});

}  // namespace weft
