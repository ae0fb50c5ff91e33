#include "weft/engine/ops/batch_norm.h"

#include <cmath>

#include "weft/engine/checkpoint.h"
#include "weft/engine/ops/batch_norm_helpers.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/learned_activation_helpers.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/trace.h"

namespace weft {
namespace ops {

NormActivation::NormActivation(const Tensor& x, const BatchNormOptions& o, const std::vector<Tensor>& learned)
    : act(o.activation), param(o.activation_param.value_or(activation_default_param(o.activation))) {
  check(!is_random(act), "batch_norm: ", activation_name(act),
        " draws random numbers and can't be fused; use BatchNorm2d, which applies it by itself");
  if (is_learned(act))
    check_learned_parameters(x, act, learned);
  else
    check(learned.empty(), "batch_norm: ", activation_name(act), " learns nothing, but ", learned.size(),
          " parameters were given for it");
  each = spread_over_channels(learned, x.size(-1));
}

Tensor inverse_std(const Tensor& x, const ChannelStats& stats, double eps, double momentum,
                   const ChannelStats& running) {
  Tensor out = empty_like(stats.var);
  dispatch("batch_norm", x, [&](const auto& k) {
    using W = wide_type<decltype(k)>;
    W *running_mean = nullptr, *running_var = nullptr;
    if (running.mean.defined()) running_mean = running.mean.data<W>(), running_var = running.var.data<W>();
    k.batch_norm_update(x.numel() / x.size(-1), x.size(-1), eps, momentum, stats.mean.data<W>(),
                        stats.var.data<W>(), running_mean, running_var, out.data<W>());
  });
  return out;
}

void check_norm_operands(const Tensor& x, const Tensor& residual,
                         std::initializer_list<std::pair<const char*, const Tensor*>> vectors) {
  check(x.ndim() >= 2 && x.numel() > 0, "batch_norm: expected a non-empty input [..., C], got ", x.shape());
  for (const auto& [name, t] : vectors) {
    check(t->shape() == Shape{x.size(-1)}, "batch_norm: ", name, " has shape ", t->shape(), " but the input ",
          x.shape(), " has ", x.size(-1), " channels");
    check(t->dtype() == wide_dtype(x.dtype()), "batch_norm: ", name, " is ", t->dtype(),
          " but beside an input of ", x.dtype(), " it must be ", wide_dtype(x.dtype()));
    check_same_device("batch_norm", x, *t);
  }
  if (residual.defined()) {
    check(residual.shape() == x.shape(), "batch_norm: the residual ", residual.shape(),
          " must have the input's shape ", x.shape());
    check_same_dtype("batch_norm", x, residual);
  }
}

std::pair<Tensor, Tensor> batch_stats(const Tensor& x, double eps, double momentum,
                                      const ChannelStats& running, const ChannelStats& known) {
  if (known.mean.defined()) return {known.mean, inverse_std(x, known, eps, momentum, running)};
  const int64_t channels = x.size(-1), rows = x.numel() / channels;
  const ChannelStats stats{empty_like(running.mean), empty_like(running.var)};
  Tensor invstd;
  dispatch("batch_norm", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    using W = wide_type<decltype(k)>;
    W *mean = stats.mean.data<W>(), *var = stats.var.data<W>();
    if (!k.batch_norm_stats_update) return k.batch_norm_stats(rows, channels, x.data<T>(), mean, var);
    invstd = empty_like(stats.var);
    k.batch_norm_stats_update(rows, channels, eps, momentum, x.data<T>(), mean, var, running.mean.data<W>(),
                              running.var.data<W>(), invstd.data<W>());
  });
  if (!invstd.defined()) invstd = inverse_std(x, stats, eps, momentum, running);
  return {stats.mean, invstd};
}

std::pair<Tensor, Tensor> training_stats(const char* op, const BatchNormInput& in,
                                         const BatchNormOptions& o) {
  check_norm_operands(in.x, {},
                      {{"weight", &in.weight},
                       {"bias", &in.bias},
                       {"running_mean", &in.running_mean},
                       {"running_var", &in.running_var}});
  check(in.x.numel() > in.x.size(-1), op,
        ": training needs more than one value per channel, but the input is ", in.x.shape(),
        "; use a larger batch or eval()");
  return once(  // see batch_norm()
      [&] {
        return batch_stats(in.x, o.eps, o.momentum, {in.running_mean, in.running_var}, in.stats);
      });
}

Normalized normalized(const Tensor& x, DType wide, double eps) {
  std::vector<int> all_but_last;
  for (int i = 0; i + 1 < x.ndim(); ++i) all_but_last.push_back(i);
  Tensor xhat = cast(x, wide);
  xhat = xhat - mean(xhat, all_but_last);
  const Tensor invstd = reciprocal(sqrt(mean(square(xhat), all_but_last) + eps));
  return {xhat * invstd, invstd};
}

void set_norm_gradients(BackwardContext& c, int input, const Normalized& n, const Tensor& w, const Tensor& g,
                        bool training, DType dtype) {
  const double rows = double(g.numel() / g.size(-1));
  const Tensor dw = sum_to(g * n.xhat, w.shape()), db = sum_to(g, w.shape());
  c.set(input + 1, dw);
  c.set(input + 2, db);
  if (c.needs(input))
    c.set(input, cast(w * n.invstd * (training ? g - (db + n.xhat * dw) / rows : g), dtype));
}

}  // namespace ops

namespace {

/// Both backwards of batch_norm, and what they keep.
struct NormBackward {
  Tensor x, w, b;
  Tensor residual;  // where the activation's derivative needs its values
  Tensor mean, invstd;
  bool training, has_residual;
  BatchNormOptions o;
  ops::NormActivation activation;
  std::vector<Tensor> learned;

  void operator()(BackwardContext& c) const {
    if (c.create_graph()) return recorded(c);
    const Tensor& dy = c.grad_output();
    Tensor dw = ops::empty_like(w), db = ops::empty_like(w);
    std::vector<Tensor> dp;
    for (const Tensor& p : activation.each) dp.push_back(ops::empty_like(p));
    const bool in_place = dy.unique();  // nobody else looks at dy: overwrite it
    dispatch("batch_norm", x, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      using W = wide_type<decltype(k)>;
      auto a = activation.arguments<T>(x, w, b, mean, invstd, residual);
      Tensor g = dy;
      const bool write_g = has_residual ? a.activation != Activation::identity
                                        : in_place && !k.batch_norm_recomputes(a.activation);
      if (write_g && !in_place) g = ops::empty_like(x);
      T* const to_g = write_g ? g.data<T>() : nullptr;
      Tensor dx;
      if (c.needs(0)) dx = in_place && !has_residual ? g : ops::empty_like(x);
      const bool done = training && dx.defined() && k.batch_norm_backward_once &&
                        k.batch_norm_backward_once(a, dy.data<T>(), to_g, dw.data<W>(), db.data<W>(),
                                                   dx.template data<T>());
      if (!done) {
        k.batch_norm_backward_reduce(a, dy.data<T>(), to_g, dw.data<W>(), db.data<W>(),
                                     ops::pointers_to<W>(dp).data());
        if (write_g) a.activation = Activation::identity, a.residual = nullptr;
        if (dx.defined())
          k.batch_norm_backward_input(a, g.data<T>(), dw.data<W>(), db.data<W>(), training,
                                      dx.template data<T>());
      }
      if (dx.defined()) c.set(0, std::move(dx));
      if (has_residual) c.set(3, std::move(g));
    });
    c.set(1, std::move(dw));
    c.set(2, std::move(db));
    for (size_t k = 0; k < dp.size(); ++k) c.set(4 + int(k), ops::sum_to(dp[k], learned[k].shape()));
  }

  /// In plain ops, for a backward that is recorded. In training mean and invstd are computed again, because
  /// they depend on x; otherwise they are the constants given.
  void recorded(BackwardContext& c) const {
    const ops::Normalized n = training ? ops::normalized(x, w.dtype(), o.eps)
                                       : ops::Normalized{(cast(x, w.dtype()) - mean) * invstd, invstd};
    Tensor g = cast(c.grad_output(), w.dtype());
    if (o.activation != Activation::identity) {
      Tensor z = n.xhat * w + b;
      if (residual.defined()) z = z + cast(residual, w.dtype());
      if (learned.empty()) {
        g = ops::activation_backward(o.activation, activation.param, z, g);
      } else {
        const auto slopes = ops::learned_slopes(o.activation, z, learned);
        for (size_t k = 0; k < learned.size(); ++k)
          if (c.needs(4 + int(k)))
            c.set(4 + int(k), ops::sum_to(g * slopes.parameters[k], learned[k].shape()));
        g = g * slopes.x;
      }
    }
    ops::set_norm_gradients(c, 0, n, w, g, training, x.dtype());
    if (c.needs(3)) c.set(3, cast(g, x.dtype()));
  }
};

}  // namespace

// With xhat = (x - mean) invstd, z = weight xhat + bias + residual, g = dy act'(z), M rows:
//   dbias = sum g, dweight = sum g xhat, dresidual = g, of a learned activation dp = sum dy dact/dp,
//   dx = weight invstd (g - [dbias + xhat dweight] / M), the bracket only where mean and var are the batch's
//   own.
// z is computed again from x in the backward pass: cheaper than keeping it (memory traffic is what counts
// here).
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                  const Tensor& running_var, bool training, const BatchNormOptions& o, const Tensor& residual,
                  const ChannelStats& stats, const std::vector<Tensor>& learned) {
  ops::check_norm_operands(
      x, residual,
      {{"weight", &weight}, {"bias", &bias}, {"running_mean", &running_mean}, {"running_var", &running_var}});
  const int64_t channels = x.size(-1), rows = x.numel() / channels;
  check(
      !stats.mean.defined() || (stats.mean.shape() == weight.shape() && stats.var.shape() == weight.shape()),
      "batch_norm: the statistics ", stats.mean.defined() ? stats.mean.shape() : Shape{}, " do not fit ",
      channels, " channels");
  check(!training || rows > 1,
        "batch_norm: training needs more than one value per channel, but the input is ", x.shape(),
        "; use a larger batch or eval()");

  const ops::NormActivation activation(x, o, learned);
  Tensor y;
  // Once: the running values follow this batch only one time, and in evaluation they may change before a
  // checkpoint's second run or before backward.
  const auto [mean, invstd] = once([&] {
    const ChannelStats running{running_mean, running_var};
    if (!training) return std::pair(running_mean.clone(), ops::inverse_std(x, running, o.eps));
    auto batch = std::pair(ops::empty_like(running_mean), ops::empty_like(running_var));
    dispatch("batch_norm", x, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      using W = wide_type<decltype(k)>;
      if (stats.mean.defined() || !k.batch_norm_forward_once) return;
      Tensor out = ops::empty_like(x);
      const auto a = activation.arguments<T>(x, weight, bias, batch.first, batch.second, residual);
      if (k.batch_norm_forward_once(a, o.eps, o.momentum, batch.first.template data<W>(),
                                    running_mean.data<W>(), running_var.data<W>(),
                                    batch.second.template data<W>(), out.data<T>()))
        y = out;
    });
    return y.defined() ? batch : ops::batch_stats(x, o.eps, o.momentum, running, stats);
  });
  if (!y.defined()) {
    y = ops::empty_like(x);
    dispatch("batch_norm", x, [&, mean = mean, invstd = invstd](const auto& k) {
      using T = kernel_type<decltype(k)>;
      k.batch_norm_forward(activation.arguments<T>(x, weight, bias, mean, invstd, residual), y.data<T>());
    });
  }

  std::vector<Tensor> inputs{x, weight, bias, residual};
  inputs.insert(inputs.end(), learned.begin(), learned.end());
  std::string detail;
  if (Tape::current()) {
    detail = concat(training ? "train" : "eval", residual.defined() ? " + residual" : "");
    if (o.activation != Activation::identity) detail += concat(" + ", activation_name(o.activation));
  }
  // With no activation the derivative needs no z.
  const Tensor kept_residual = o.activation == Activation::identity ? Tensor() : residual;
  record("batch_norm", inputs, {y},
         NormBackward{x, weight, bias, kept_residual, mean, invstd, training, residual.defined(), o,
                      activation, learned},
         {.detail = std::move(detail),
          .double_backward = true,
          .told = Trace::current() ? Trace::note(TracedBatchNorm{o, training, running_mean, running_var})
                                   : std::any()});
  return y;
}

}  // namespace weft
