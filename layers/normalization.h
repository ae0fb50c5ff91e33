// Layers that normalise parts of a sample. They do the same in training and in evaluation and keep no running
// statistics.
#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/normalization.h"

namespace weft {

struct LayerNormOptions {
  double eps = 1e-5;
  bool elementwise_affine = true;  ///< whether there are weight and bias
  bool bias = true;                ///< whether there is a bias, if there is a weight
};

/// layer_norm() over the last dimensions, of sizes `normalized_shape`. Parameters weight (starts at 1) and
/// bias (0) of that shape.
class LayerNorm : public Module {
 public:
  LayerNorm(Module& parent, std::string_view name, const std::vector<int64_t>& normalized_shape,
            const LayerNormOptions& options = {});
  /// Over the last dimension alone.
  LayerNorm(Module& parent, std::string_view name, int64_t size, const LayerNormOptions& options = {})
      : LayerNorm(parent, name, std::vector<int64_t>{size}, options) {}

  Tensor forward(const Tensor& x) override { return layer_norm(x, shape_, weight, bias, eps_); }
  std::string description() const override;

  Tensor weight, bias;  ///< undefined where there is none

 private:
  std::vector<int64_t> shape_;
  double eps_;
};

struct GroupNormOptions {
  double eps = 1e-5;
  bool affine = true;  ///< whether there are weight and bias
};

/// group_norm() of x [N, ..., C] with C = num_channels. Parameters weight (starts at 1) and bias (0), [C]
/// each.
class GroupNorm : public Module {
 public:
  GroupNorm(Module& parent, std::string_view name, int64_t num_groups, int64_t num_channels,
            const GroupNormOptions& options = {});

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor weight, bias;  ///< undefined where there is none

 private:
  int64_t groups_, channels_;
  double eps_;
};

struct InstanceNormOptions {
  double eps = 1e-5;
  bool affine = false;  ///< whether there are weight and bias
};

/// instance_norm() of x [N, ..., C] with C = num_features: each channel of each sample for itself.
/// Parameters, with affine, weight (starts at 1) and bias (0), [C] each.
class InstanceNorm2d : public Module {
 public:
  InstanceNorm2d(Module& parent, std::string_view name, int64_t num_features,
                 const InstanceNormOptions& options = {});

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor weight, bias;  ///< undefined where there is none

 private:
  int64_t channels_;
  double eps_;
};

}  // namespace weft
