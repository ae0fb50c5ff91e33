#include "weft/layers/batch_norm.h"

#include "weft/engine/tape.h"

namespace weft {

BatchNorm2d::BatchNorm2d(Module& parent, std::string_view name, int64_t channels,
                         const BatchNormOptions& options, Generator& generator)
    : Module(parent, name), options_(options) {
  check(channels > 0, "BatchNorm2d ", name, ": ", channels, " channels; there must be at least one");
  weight = register_parameter("weight", Tensor::ones({channels}));
  bias = register_parameter("bias", Tensor::zeros({channels}));
  running_mean = register_buffer("running_mean", Tensor::zeros({channels}));
  running_var = register_buffer("running_var", Tensor::ones({channels}));
  if (!is_fixed(options.activation))
    act.emplace(*this, "act", options.activation, options.activation_param, channels, generator);
}

Tensor BatchNorm2d::forward(const Tensor& x, const Tensor& residual, const ChannelStats& stats) {
  using Slopes = kernels::activations::rrelu;
  BatchNormOptions fused = options_;
  std::vector<Tensor> learned;
  const bool draws = is_random(options_.activation);
  const bool apart = act && (act->has_hooks() || (draws && act->training()));
  if (apart)
    fused.activation = Activation::identity;
  else if (draws)  // in evaluation one slope for all
    fused.activation = Activation::leaky_relu, fused.activation_param = (Slopes::lower + Slopes::upper) / 2;
  else if (act)
    learned = act->learned();
  const Tensor y =
      batch_norm(x, weight, bias, running_mean, running_var, training(), fused, residual, stats, learned);
  return apart ? (*act)(y) : y;
}

Tensor BatchNorm2d::operator()(const Tensor& x, const Tensor& residual, const ChannelStats& stats) {
  return call(x, [&](const Tensor& in) {
    return forward(in, residual, in.raw() == x.raw() ? stats : ChannelStats{});  // a hook may have changed it
  });
}

std::string BatchNorm2d::description() const {
  std::string s = concat("BatchNorm2d(", weight.size(0));
  if (options_.activation != Activation::identity) s += concat(", ", activation_name(options_.activation));
  return s + ")";
}

}  // namespace weft
