#include "weft/layers/normalization.h"

namespace weft {

LayerNorm::LayerNorm(Module& parent, std::string_view name, const std::vector<int64_t>& normalized_shape,
                     const LayerNormOptions& options)
    : Module(parent, name), shape_(normalized_shape), eps_(options.eps) {
  Shape shape;
  for (int64_t n : normalized_shape) {
    check(n > 0, "LayerNorm ", name, ": size ", n, " in the normalized_shape; all must be positive");
    shape.push_back(n);
  }
  check(shape.ndim() > 0, "LayerNorm ", name, ": the normalized_shape is empty");
  if (!options.elementwise_affine) return;
  weight = register_parameter("weight", Tensor::ones(shape));
  if (options.bias) bias = register_parameter("bias", Tensor::zeros(shape));
}

std::string LayerNorm::description() const {
  std::string s = "LayerNorm(";
  for (size_t i = 0; i < shape_.size(); ++i) s += concat(i ? ", " : "", shape_[i]);
  return s + (weight.defined() ? ")" : ", no affine)");
}

GroupNorm::GroupNorm(Module& parent, std::string_view name, int64_t num_groups, int64_t num_channels,
                     const GroupNormOptions& options)
    : Module(parent, name), groups_(num_groups), channels_(num_channels), eps_(options.eps) {
  check(num_groups > 0 && num_channels > 0 && num_channels % num_groups == 0, "GroupNorm ", name, ": ",
        num_channels, " channels can't be split into ", num_groups, " groups");
  if (!options.affine) return;
  weight = register_parameter("weight", Tensor::ones({num_channels}));
  bias = register_parameter("bias", Tensor::zeros({num_channels}));
}

Tensor GroupNorm::forward(const Tensor& x) {
  check(x.ndim() >= 2 && x.size(-1) == channels_, "GroupNorm: x has shape ", x.shape(),
        " but [N, ..., C] with C = ", channels_, " is expected");
  return group_norm(x, groups_, weight, bias, eps_);
}

std::string GroupNorm::description() const {
  return concat("GroupNorm(", groups_, ", ", channels_, weight.defined() ? ")" : ", no affine)");
}

InstanceNorm2d::InstanceNorm2d(Module& parent, std::string_view name, int64_t num_features,
                               const InstanceNormOptions& options)
    : Module(parent, name), channels_(num_features), eps_(options.eps) {
  check(num_features > 0, "InstanceNorm2d ", name, ": ", num_features,
        " channels; there must be at least one");
  if (!options.affine) return;
  weight = register_parameter("weight", Tensor::ones({num_features}));
  bias = register_parameter("bias", Tensor::zeros({num_features}));
}

Tensor InstanceNorm2d::forward(const Tensor& x) {
  check(x.ndim() >= 2 && x.size(-1) == channels_, "InstanceNorm2d: x has shape ", x.shape(),
        " but [N, ..., C] with C = ", channels_, " is expected");
  return instance_norm(x, weight, bias, eps_);
}

std::string InstanceNorm2d::description() const {
  return concat("InstanceNorm2d(", channels_, weight.defined() ? ", affine)" : ")");
}

}  // namespace weft
