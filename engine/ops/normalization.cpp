#include "weft/engine/ops/normalization.h"

#include <utility>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/trace.h"

namespace weft {
namespace {

/// x as [batch, pixels, groups, channels / groups].
struct Partition {
  int64_t batch, pixels, groups, channels;
};

void check_parameter(const char* op, const char* name, const Tensor& t, const Shape& shape, const Tensor& x) {
  if (!t.defined()) return;
  check(t.shape() == shape, op, ": ", name, " has shape ", t.shape(), " but the input ", x.shape(), " needs ",
        shape);
  check(t.dtype() == ops::wide_dtype(x.dtype()), op, ": ", name, " is ", t.dtype(),
        " but beside an input of ", x.dtype(), " it must be ", ops::wide_dtype(x.dtype()));
  ops::check_same_device(op, x, t);
}

template <class T>
kernels::GroupNormArgs<T> arguments(const Partition& p, const Tensor& x, const Tensor& weight,
                                    const Tensor& bias) {
  using W = kernels::Wide<T>;
  kernels::GroupNormArgs<T> a;
  a.batch = p.batch, a.pixels = p.pixels, a.groups = p.groups, a.channels = p.channels;
  a.x = x.data<T>();
  if (weight.defined()) a.weight = weight.data<W>();
  if (bias.defined()) a.bias = bias.data<W>();
  return a;
}

// With xhat = (x - mean) rstd, y = weight xhat + bias and g = dy weight:
//   dbias = sum dy, dweight = sum dy xhat, dx = rstd (g - mean of g - xhat mean of g xhat),
// the means over what the statistics are taken of.

/// That in recorded ops.
void recorded_backward(BackwardContext& c, const Partition& p, const Tensor& x, const Tensor& weight,
                       const Shape& bias, double eps) {
  const Shape shape{p.batch, p.pixels, p.groups, p.channels / p.groups}, channels{1, 1, shape[2], shape[3]};
  const auto over_group = [](const Tensor& t) { return mean(t, {1, 3}, true); };
  const Tensor dy = ops::view_as(c.grad_output(), shape), values = ops::view_as(x, shape);
  const Tensor centred = values - over_group(values);
  const Tensor rstd = reciprocal(sqrt(over_group(square(centred)) + eps)), xhat = centred * rstd;
  if (c.needs(0)) {
    const Tensor g = weight.defined() ? dy * ops::view_as(cast(weight, x.dtype()), channels) : dy;
    const Tensor dx = rstd * (g - over_group(g) - xhat * over_group(g * xhat));
    c.set(0, ops::view_as(dx, x.shape()));
  }
  if (c.needs(1)) c.set(1, ops::view_as(ops::sum_to(dy * xhat, channels), weight.shape()));
  if (c.needs(2)) c.set(2, ops::view_as(ops::sum_to(dy, channels), bias));
}

Tensor normalize(const char* op, const Partition& p, const Tensor& x, const Tensor& weight,
                 const Tensor& bias, double eps) {
  const Tensor mean = Tensor::empty({p.batch, p.groups}, ops::wide_dtype(x.dtype()), x.device());
  const Tensor rstd = ops::empty_like(mean);
  Tensor y = ops::empty_like(x);
  dispatch(op, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    using W = wide_type<decltype(k)>;
    k.group_norm_forward(arguments<T>(p, x, weight, bias), eps, y.data<T>(), mean.data<W>(), rstd.data<W>());
  });
  const Shape bias_shape = bias.defined() ? bias.shape() : Shape{};
  auto backward = [=](BackwardContext& c) {
    if (c.create_graph()) return recorded_backward(c, p, x, weight, bias_shape, eps);
    Tensor dy = c.take_grad_output(), dx = !c.needs(0) ? Tensor() : dy.unique() ? dy : ops::empty_like(x);
    const Tensor dw = c.needs(1) ? ops::empty({p.channels}, mean) : Tensor(),
                 db = c.needs(2) ? ops::empty({p.channels}, mean) : Tensor();
    dispatch(op, x, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      using W = wide_type<decltype(k)>;
      const auto data = [](const Tensor& t) { return t.defined() ? t.data<W>() : nullptr; };
      k.group_norm_backward(arguments<T>(p, x, weight, Tensor()), mean.data<W>(), rstd.data<W>(),
                            dy.data<T>(), dx.defined() ? dx.data<T>() : nullptr, data(dw), data(db));
    });
    dy = {};  // so that dx is handed over with no other owner
    if (dx.defined()) c.set(0, std::move(dx));
    if (dw.defined()) c.set(1, dw.view(weight.shape()));
    if (db.defined()) c.set(2, db.view(bias_shape));
  };
  record(op, {x, weight, bias}, {y}, std::move(backward),
         {.double_backward = true, .told = Trace::note(TracedLayerNorm{p.channels, eps})});
  return y;
}

}  // namespace

Tensor layer_norm(const Tensor& x, const std::vector<int64_t>& normalized_shape, const Tensor& weight,
                  const Tensor& bias, double eps) {
  Shape last;
  for (int64_t n : normalized_shape) last.push_back(n);
  bool fits = last.ndim() >= 1 && last.ndim() <= x.ndim();
  for (int i = 1; fits && i <= last.ndim(); ++i) fits = x.size(-i) == last[-i];
  check(fits && x.numel() > 0, "layer_norm: the last sizes of the input ", x.shape(),
        " must be the normalized_shape ", last, ", and none of them 0");
  check_parameter("layer_norm", "weight", weight, last, x);
  check_parameter("layer_norm", "bias", bias, last, x);
  return normalize("layer_norm", {x.numel() / last.numel(), 1, 1, last.numel()}, x, weight, bias, eps);
}

Tensor group_norm(const Tensor& x, int64_t num_groups, const Tensor& weight, const Tensor& bias, double eps) {
  check(x.ndim() >= 2 && x.numel() > 0, "group_norm: expected a non-empty input [N, ..., C], got ",
        x.shape());
  const int64_t channels = x.size(-1);
  check(num_groups >= 1 && channels % num_groups == 0, "group_norm: ", channels, " channels of the input ",
        x.shape(), " can't be split into ", num_groups, " groups");
  check_parameter("group_norm", "weight", weight, {channels}, x);
  check_parameter("group_norm", "bias", bias, {channels}, x);
  return normalize("group_norm", {x.size(0), x.numel() / x.size(0) / channels, num_groups, channels}, x,
                   weight, bias, eps);
}

Tensor instance_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  check(
      x.ndim() >= 2 && x.numel() > x.size(0) * x.size(-1),
      "instance_norm: expected an input [N, ..., C] with more than one element per sample and channel, got ",
      x.shape());
  const int64_t channels = x.size(-1);
  check_parameter("instance_norm", "weight", weight, {channels}, x);
  check_parameter("instance_norm", "bias", bias, {channels}, x);
  return normalize("instance_norm", {x.size(0), x.numel() / x.size(0) / channels, channels, channels}, x,
                   weight, bias, eps);
}

}  // namespace weft
