#pragma once

#include <optional>

#include "weft/engine/module.h"
#include "weft/engine/ops/batch_norm.h"
#include "weft/layers/activation.h"

namespace weft {

/// Batch normalisation over all but the last dimension, with an activation and an addition in the same pass:
///   y = activation((x - mean) / sqrt(var + eps) * weight + bias (+ residual))
/// x, residual [..., C]; parameters weight (starts at 1) and bias (0), buffers running_mean (0) and
/// running_var (1), each [C]. In training the batch's mean and variance are used and the running ones follow;
/// in evaluation the running ones are used. An activation that learns parameters or draws is a child module,
/// `act`, which owns these. It takes a pass of its own where it draws (in training) or has hooks.
class BatchNorm2d : public Module {
 public:
  /// Options: momentum .1, eps 1e-5, activation (none), activation_param. `generator` is for activations that
  /// draw, and must outlive the layer then.
  BatchNorm2d(Module& parent, std::string_view name, int64_t channels, const BatchNormOptions& options = {},
              Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override { return forward(x, Tensor()); }
  /// `stats`: those of x, where known (see batch_norm()).
  Tensor forward(const Tensor& x, const Tensor& residual, const ChannelStats& stats = {});
  using Module::operator();
  Tensor operator()(const Tensor& x, const Tensor& residual, const ChannelStats& stats = {});
  /// The layer as an op that goes before applies it (conv2d_batch_norm()), where it is one pass in evaluation
  /// that no hook sees; nothing otherwise.
  std::optional<RunningNorm> running(const Tensor& residual) const;
  std::string description() const override;
  const BatchNormOptions& options() const { return options_; }

  Tensor weight, bias, running_mean, running_var;
  std::optional<ActivationLayer> act;  ///< where the activation learns or draws

 private:
  /// What batch_norm() is given of the activation, and whether this is left to `act`.
  struct Fused {
    BatchNormOptions options;
    std::vector<Tensor> learned = {};
    bool apart = false;
  };
  Fused fused() const;

  BatchNormOptions options_;
};

}  // namespace weft
