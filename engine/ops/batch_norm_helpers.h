// Not part of the public API: what batch_norm() and batch_norm_pair() have in common.
#pragma once

#include <utility>

#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/tape.h"

namespace weft::ops {

/// The kernels' arguments, without a residual and learned parameters.
template <class T>
kernels::BatchNormArgs<T> norm_arguments(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                         const Tensor& mean, const Tensor& invstd, Activation activation,
                                         double param) {
  using W = kernels::Wide<T>;
  kernels::BatchNormArgs<T> a;
  a.rows = x.numel() / x.size(-1), a.channels = x.size(-1);
  a.x = x.data<T>(), a.mean = mean.data<W>(), a.invstd = invstd.data<W>();
  a.weight = weight.data<W>(), a.bias = bias.data<W>();
  a.activation = activation, a.param = W(param);
  return a;
}

/// The activation of a batch norm of x, checked, and its parameters as kernels take them.
struct NormActivation {
  Activation act;
  double param;
  std::vector<Tensor> each;  // of a learned one: for each channel

  NormActivation(const Tensor& x, const BatchNormOptions& o, const std::vector<Tensor>& learned);

  /// norm_arguments() with them.
  template <class T>
  kernels::BatchNormArgs<T> arguments(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                      const Tensor& mean, const Tensor& invstd,
                                      const Tensor& residual = {}) const {
    auto a = norm_arguments<T>(x, weight, bias, mean, invstd, act, param);
    if (residual.defined()) a.residual = residual.data<T>();
    for (size_t k = 0; k < each.size(); ++k) a.parameters[k] = each[k].data<kernels::Wide<T>>();
    return a;
  }
};

/// Throws unless x is [..., C] and not empty, the vectors fit to it, and the residual, where there is one.
void check_norm_operands(const Tensor& x, const Tensor& residual,
                         std::initializer_list<std::pair<const char*, const Tensor*>> vectors);

/// 1 / sqrt(var + eps) of each channel of x; in training (running is defined) the running values follow the
/// batch's.
Tensor inverse_std(const Tensor& x, const ChannelStats& stats, double eps, double momentum = 0,
                   const ChannelStats& running = {});

/// Mean and 1 / sqrt(var + eps) of the batch, which the running values follow; `known`: mean and variance,
/// where they are.
std::pair<Tensor, Tensor> batch_stats(const Tensor& x, double eps, double momentum,
                                      const ChannelStats& running, const ChannelStats& known);

/// The same in training for an op that puts batch norm together with others: checks `in` first, and says `op`
/// where it has one value per channel. Once, where the op is run again by checkpoint().
std::pair<Tensor, Tensor> training_stats(const char* op, const BatchNormInput& in, const BatchNormOptions& o);

/// (x - mean) / sqrt(var + eps) and 1 / sqrt(var + eps) in recorded ops, in the type of the statistics.
struct Normalized {
  Tensor xhat, invstd;
};
Normalized normalized(const Tensor& x, DType wide, double eps);

/// From g, the gradient of xhat w + b, sets those of x, of type `dtype`, w and b, which are the inputs of the
/// numbers `input` to `input` + 2, in recorded ops. `training`: the statistics depend on x.
void set_norm_gradients(BackwardContext& c, int input, const Normalized& n, const Tensor& w, const Tensor& g,
                        bool training, DType dtype);

}  // namespace weft::ops
