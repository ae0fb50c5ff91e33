// Normalisation over parts of a sample: statistics of its own for each of them, the same in training and in
// evaluation. There are no running statistics (PyTorch's track_running_stats).
#pragma once

#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

/// Layer normalisation (Ba, Kiros and Hinton, 2016, arXiv 1607.06450) over the last dimensions, whose sizes
/// are `normalized_shape`: y = (x - mean) / sqrt(var + eps) * weight + bias with the biased variance. weight
/// and bias have the shape `normalized_shape`; either may be undefined.
Tensor layer_norm(const Tensor& x, const std::vector<int64_t>& normalized_shape, const Tensor& weight = {},
                  const Tensor& bias = {}, double eps = 1e-5);
/// Group normalisation (Wu and He, 2018, arXiv 1803.08494): x [N, ..., C], mean and variance over
/// `num_groups` groups of neighbouring channels, for each sample and group over the dimensions between too.
/// weight, bias: [C], either may be undefined.
Tensor group_norm(const Tensor& x, int64_t num_groups, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5);
/// Instance normalisation (Ulyanov, Vedaldi and Lempitsky, 2016, arXiv 1607.08022): group_norm with a group
/// for each channel. x [N, ..., C] with more than one element per sample and channel.
Tensor instance_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5);

}  // namespace weft
