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

BatchNorm2d::Fused BatchNorm2d::fused() const {
  using Slopes = kernels::activations::rrelu;
  Fused f{options_};
  const bool draws = is_random(options_.activation);
  f.apart = act && (act->has_hooks() || (draws && act->training()));
  if (f.apart)
    f.options.activation = Activation::identity;
  else if (draws)  // in evaluation one slope for all
    f.options.activation = Activation::leaky_relu,
    f.options.activation_param = (Slopes::lower + Slopes::upper) / 2;
  else if (act)
    f.learned = act->learned();
  return f;
}

Tensor BatchNorm2d::forward(const Tensor& x, const Tensor& residual, const ChannelStats& stats) {
  const Fused f = fused();
  const Tensor y = batch_norm(x, weight, bias, running_mean, running_var, training(), f.options, residual,
                              stats, f.learned);
  return f.apart ? (*act)(y) : y;
}

std::optional<RunningNorm> BatchNorm2d::running(const Tensor& residual) const {
  if (training() || has_hooks()) return {};
  const Fused f = fused();
  if (f.apart) return {};
  return RunningNorm{weight, bias, running_mean, running_var, f.options, residual, f.learned};
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
