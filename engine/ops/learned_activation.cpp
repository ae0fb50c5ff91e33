#include "weft/engine/ops/learned_activation.h"

#include <numeric>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/learned_activation_helpers.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/trace.h"

namespace weft {

namespace ops {
namespace {

Tensor spread(const Tensor& parameter, int64_t channels) {
  if (parameter.numel() == channels) return parameter;
  Tensor all = empty({channels}, parameter);
  const kernels::Broadcast how = broadcast(all.shape(), {}, {});
  dispatch("learned_activation", parameter, [&](const auto& k) {  // the larger of it and itself
    using T = kernel_type<decltype(k)>;
    k.binary(kernels::Binary::maximum, how, parameter.data<T>(), parameter.data<T>(), all.data<T>());
  });
  return all;
}

}  // namespace

void check_learned_parameters(const Tensor& x, Activation act, const std::vector<Tensor>& parameters) {
  const std::string_view name = activation_name(act);
  const auto known = activation_parameters(act);
  check(is_learned(act), "learned_activation: ", name, " has no learned parameters; use activation()");
  check(parameters.size() == known.size(), name, ": ", parameters.size(), " parameters were given, it has ",
        known.size());
  for (size_t i = 0; i < known.size(); ++i) {
    const Tensor& p = parameters[i];
    check(p.defined(), name, ": ", known[i].name, " is undefined");
    check(p.numel() == 1 || (x.ndim() > 0 && p.shape() == Shape{x.size(-1)}), name, ": ", known[i].name,
          " has shape ", p.shape(), " but the input is ", x.shape(),
          "; it must have one element, or one for each channel, which are last");
    check(p.dtype() == wide_dtype(x.dtype()), name, ": ", known[i].name, " is ", p.dtype(),
          " but beside an input of ", x.dtype(), " it must be ", wide_dtype(x.dtype()));
    check_same_device(name.data(), x, p);
  }
}

std::vector<Tensor> spread_over_channels(const std::vector<Tensor>& parameters, int64_t channels) {
  std::vector<Tensor> each;
  for (const Tensor& p : parameters) each.push_back(spread(p.detach(), channels));
  return each;
}

}  // namespace ops

namespace {

/// How x is viewed: its last dimension is the channels. Where all parameters are one for all, any view does,
/// and rows of some whole vectors are fast.
int64_t channels_of(const Tensor& x, const std::vector<Tensor>& parameters) {
  for (const Tensor& p : parameters)
    if (p.numel() != 1) return x.size(-1);
  constexpr int64_t kRow = 256, kShort = 16;
  const int64_t row = std::gcd(x.numel(), kRow);
  return x.ndim() == 0 || row >= kShort ? row : x.size(-1);
}

template <class Table>
auto arguments(const Table&, Activation act, const Tensor& x, const std::vector<Tensor>& parameters) {
  using T = kernel_type<Table>;
  kernels::LearnedActivationArgs<T> a;
  a.activation = act, a.channels = parameters[0].numel(), a.rows = x.numel() / a.channels;
  a.x = x.data<T>();
  for (size_t i = 0; i < parameters.size(); ++i) a.parameters[i] = parameters[i].data<kernels::Wide<T>>();
  return a;
}

void recorded_backward(BackwardContext& c, Activation act, const Tensor& x, const std::vector<Tensor>& p) {
  const Tensor g = cast(c.grad_output(), p[0].dtype());
  const auto slopes = ops::learned_slopes(act, cast(x, p[0].dtype()), p);
  if (c.needs(0)) c.set(0, cast(g * slopes.x, x.dtype()));
  for (size_t k = 0; k < p.size(); ++k)
    if (c.needs(int(k) + 1)) c.set(int(k) + 1, ops::sum_to(g * slopes.parameters[k], p[k].shape()));
}

}  // namespace

// y = f(x; p): dx = dy df/dx, dp = sum over the rows of dy df/dp; where one p is for all channels, over these
// too.
Tensor learned_activation(const Tensor& x, Activation act, const std::vector<Tensor>& parameters) {
  ops::check_learned_parameters(x, act, parameters);
  const char* name = activation_name(act).data();
  Tensor y = ops::empty_like(x);
  std::vector<Tensor> inputs{x}, each;
  inputs.insert(inputs.end(), parameters.begin(), parameters.end());
  if (x.numel() > 0) {
    each = ops::spread_over_channels(parameters, channels_of(x, parameters));
    dispatch(name, x, [&](const auto& k) {
      k.learned_activation(arguments(k, act, x, each), y.data<kernel_type<decltype(k)>>());
    });
  }
  auto backward = [=](BackwardContext& c) {
    if (x.numel() == 0) {
      for (size_t i = 0; i < parameters.size(); ++i)
        c.set(int(i) + 1, Tensor::zeros(parameters[i].shape(), parameters[i].dtype(), x.device()));
      return c.set(0, c.grad_output());
    }
    if (c.create_graph()) return recorded_backward(c, act, x, parameters);
    const Tensor& dy = c.grad_output();
    Tensor dx = dy.unique() ? dy : ops::empty_like(x);  // nobody else looks at dy: overwrite it
    std::vector<Tensor> gradients;
    for (const Tensor& p : each) gradients.push_back(ops::empty_like(p));
    dispatch(name, x, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      k.learned_activation_backward(arguments(k, act, x, each), dy.data<T>(), dx.data<T>(),
                                    ops::pointers_to<kernels::Wide<T>>(gradients).data());
    });
    c.set(0, std::move(dx));
    for (size_t i = 0; i < gradients.size(); ++i)
      c.set(int(i) + 1, ops::sum_to(gradients[i], parameters[i].shape()));
  };
  record(name, inputs, {y}, std::move(backward),
         {.double_backward = true, .told = Trace::note(TracedActivation{act, 0})});
  return y;
}

Tensor prelu(const Tensor& x, const Tensor& weight) {
  return learned_activation(x, Activation::prelu, {weight});
}
Tensor swish_beta(const Tensor& x, const Tensor& beta) {
  return learned_activation(x, Activation::swish_beta, {beta});
}
Tensor srelu(const Tensor& x, const Tensor& t_r, const Tensor& a_r, const Tensor& t_l, const Tensor& a_l) {
  return learned_activation(x, Activation::srelu, {t_r, a_r, t_l, a_l});
}

}  // namespace weft
