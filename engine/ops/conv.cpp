#include "weft/engine/ops/conv.h"

#include <algorithm>

#include "weft/engine/anomaly.h"
#include "weft/engine/ops/batch_norm_helpers.h"
#include "weft/engine/ops/conv_passes.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/trace.h"

namespace weft {
namespace {

using kernels::Conv2dParams;
using kernels::ConvPass;

Conv2dParams geometry(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2dOptions& o) {
  check(x.ndim() == 4 && w.ndim() == 4,
        "conv2d: expected input [N, H, W, C] and weight [OC, KH, KW, C/groups], got ", x.shape(), " and ",
        w.shape());
  check(o.stride >= 1 && o.dilation >= 1 && o.padding >= 0 && o.groups >= 1, "conv2d: stride ", o.stride,
        ", dilation ", o.dilation, " and groups ", o.groups, " must be at least 1, padding ", o.padding,
        " at least 0");
  check(x.size(3) == w.size(3) * o.groups, "conv2d: input has ", x.size(3), " channels but weight ",
        w.shape(), " with groups ", o.groups, " expects ", w.size(3) * o.groups,
        x.size(1) == w.size(3) * o.groups ? "; if it is [N, C, H, W], give permute(x, {0, 2, 3, 1})" : "");
  check(w.size(0) % o.groups == 0, "conv2d: ", w.size(0), " output channels can't be split into ", o.groups,
        " groups");
  check(!bias.defined() || bias.shape() == Shape{w.size(0)}, "conv2d: bias ",
        bias.defined() ? bias.shape() : Shape{}, " does not fit weight ", w.shape(), "; expected [",
        w.size(0), "]");
  Conv2dParams p;
  p.batch = x.size(0), p.in_h = x.size(1), p.in_w = x.size(2), p.in_c = x.size(3);
  p.out_c = w.size(0), p.kernel_h = w.size(1), p.kernel_w = w.size(2);
  p.groups = o.groups, p.bf16 = ops::rounds_to_bf16(x);
  check(x.numel() > 0 && w.numel() > 0, "conv2d: empty input ", x.shape(), " or weight ", w.shape());
  const double around = 2.0 * double(o.padding);
  ops::set_steps("conv2d", double(p.in_h) + around, double(p.in_w) + around, o.stride, o.padding, o.dilation,
                 p);
  const auto fits = [&](int64_t in, int64_t kernel) {
    return kernel == 1 || o.dilation <= (in + 2 * o.padding - 1) / (kernel - 1);
  };
  check(fits(p.in_h, p.kernel_h) && fits(p.in_w, p.kernel_w), "conv2d: the image ", p.in_h, "x", p.in_w,
        " with padding ", o.padding, " is smaller than the kernel ", p.kernel_h, "x", p.kernel_w,
        " with dilation ", o.dilation);
  return p;
}

/// Scratch memory for one call.
template <class Table>
Tensor workspace(const Table& k, const Conv2dParams& p, ConvPass pass, Device device) {
  return Tensor::empty({k.conv2d_workspace(p, pass)}, DType::u8, device);
}

RecordOptions counted(const Conv2dParams& p) {
  return {.multiply_adds = p.multiply_adds(), .double_backward = true, .told = Trace::note(p)};
}

/// dx += the gradient of x; false where there is no kernel for it.
bool add_backward_input(const Conv2dParams& p, const Tensor& dy, const Tensor& w, Tensor& dx) {
  return dispatch("conv2d", dy, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    return k.conv2d_backward_input_add &&
           k.conv2d_backward_input_add(p, dy.data<T>(), w.data<T>(), dx.data<T>(),
                                       workspace(k, p, ConvPass::backward_input, dy.device()).raw());
  });
}

}  // namespace

namespace ops {

void set_steps(const char* op, double padded_h, double padded_w, int64_t stride, int64_t padding,
               int64_t dilation, Conv2dParams& p) {
  check(padded_h * padded_w * double(p.batch) * double(p.in_c) <= 0x1p50, op, ": stride ", stride,
        ", padding ", padding, " and dilation ", dilation, " make an image of ", padded_h, "x", padded_w,
        " with ", p.in_c, " channels, which is too large; choose smaller ones");
  const auto h = int64_t(padded_h), w = int64_t(padded_w);
  p.stride_h = std::min(stride, h), p.stride_w = std::min(stride, w);
  p.dilation_h = std::min(dilation, h), p.dilation_w = std::min(dilation, w);
  p.pad_h = p.pad_w = padding;
}

Tensor conv2d_forward(const Conv2dParams& p, const Tensor& x, const Tensor& w) {
  Tensor y = ops::empty({p.batch, p.out_h(), p.out_w(), p.out_c}, x);
  dispatch("conv2d", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.conv2d_forward(p, x.data<T>(), w.data<T>(), nullptr, y.data<T>(),
                     workspace(k, p, ConvPass::forward, x.device()).raw());
  });
  record(
      "conv2d", {x, w}, {y},
      [=](BackwardContext& c) {
        if (c.needs(0)) c.set(0, conv2d_backward_input(p, c.grad_output(), w));
        if (c.needs(1)) c.set(1, conv2d_backward_weight(p, x, c.grad_output()));
      },
      counted(p));
  return y;
}

Tensor conv2d_backward_input(const Conv2dParams& p, const Tensor& dy, const Tensor& w, const char* name) {
  Tensor dx = ops::empty({p.batch, p.in_h, p.in_w, p.in_c}, dy);
  dispatch("conv2d", dy, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.conv2d_backward_input(p, dy.data<T>(), w.data<T>(), dx.data<T>(),
                            workspace(k, p, ConvPass::backward_input, dy.device()).raw());
  });
  record(
      name, {dy, w}, {dx},
      [=](BackwardContext& c) {
        if (c.needs(0)) c.set(0, conv2d_forward(p, c.grad_output(), w));
        if (c.needs(1)) c.set(1, conv2d_backward_weight(p, c.grad_output(), dy));
      },
      counted(p));
  return dx;
}

Tensor conv2d_backward_weight(const Conv2dParams& p, const Tensor& x, const Tensor& dy) {
  Tensor dw = ops::empty({p.out_c, p.kernel_h, p.kernel_w, p.in_c / p.groups}, dy);
  dispatch("conv2d", dy, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.conv2d_backward_weight(p, x.data<T>(), dy.data<T>(), dw.data<T>(),
                             workspace(k, p, ConvPass::backward_weight, dy.device()).raw());
  });
  record(
      "conv2d_backward_weight", {x, dy}, {dw},
      [=](BackwardContext& c) {
        if (c.needs(0)) c.set(0, conv2d_backward_input(p, dy, c.grad_output()));
        if (c.needs(1)) c.set(1, conv2d_forward(p, x, c.grad_output()));
      },
      counted(p));
  return dw;
}

}  // namespace ops

// y[n,oh,ow,oc] = bias[oc] + sum_{kh,kw,c} x[n, oh s - pad + kh d, ow s - pad + kw d, c] w[oc,kh,kw,c]
// dx and dw are the transposed sums, a kernel each; dbias is the sum of dy over the images.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options,
              ChannelStats* stats, PackedWeight* packed) {
  const Conv2dParams p = geometry(x, weight, bias, options);
  const Tensor w = ops::compute_copy("conv2d", weight, x);
  const Tensor b = bias.defined() ? ops::compute_copy("conv2d", bias, x) : Tensor();
  const Tensor form = packed ? packed->get(p, w) : Tensor();
  Tensor y = ops::empty({p.batch, p.out_h(), p.out_w(), p.out_c}, x);
  dispatch("conv2d", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    const T* pb = b.defined() ? b.data<T>() : nullptr;
    if constexpr (std::is_same_v<T, float>)
      if (form.defined())
        return k.conv2d_forward_packed(p, x.data<T>(), form.raw(), pb, nullptr, y.data<T>());
    const Tensor scratch = workspace(k, p, ConvPass::forward, x.device());
    if (stats) {
      const DType wide = ops::wide_dtype(x.dtype());
      ChannelStats told{Tensor::empty({p.out_c}, wide, x.device()),
                        Tensor::empty({p.out_c}, wide, x.device())};
      using W = wide_type<decltype(k)>;
      if (k.conv2d_forward_stats(p, x.data<T>(), w.data<T>(), pb, y.data<T>(), told.mean.data<W>(),
                                 told.var.data<W>(), scratch.raw())) {
        *stats = std::move(told);
        return;
      }
    }
    k.conv2d_forward(p, x.data<T>(), w.data<T>(), pb, y.data<T>(), scratch.raw());
  });
  std::string detail;
  if (Tape::current()) {
    detail = concat(p.kernel_h, "x", p.kernel_w);
    if (options.stride != 1) detail += concat(" stride ", options.stride);
    if (options.padding != 0) detail += concat(" pad ", options.padding);
    if (options.dilation != 1) detail += concat(" dilation ", options.dilation);
    if (options.groups != 1) detail += concat(" groups ", options.groups);
  }
  record(
      "conv2d", {x, weight, bias}, {y},
      [=](BackwardContext& c) {
        if (c.needs(2)) c.set(2, ops::sum_to(c.grad_output(), {p.out_c}));
        if (c.needs(1)) {
          Tensor dw;
          c.beside(1, {x, c.grad_output()}, [&] { dw = ops::conv2d_backward_weight(p, x, c.grad_output()); });
          c.set(1, std::move(dw));
        }
        if (!c.needs(0)) return;
        const Tensor& dy = c.grad_output();
        if (!ops::added_in_place(c, 0, [&](Tensor& dx) { return add_backward_input(p, dy, w, dx); }))
          c.set(0, ops::conv2d_backward_input(p, dy, ops::recorded_copy(c, weight, w)));
      },
      {.detail = detail,
       .multiply_adds = p.multiply_adds(),
       .double_backward = true,
       .told = Trace::note(options)});
  return y;
}

bool can_conv2d_batch_norm(const Tensor& x) {
  return x.dtype() == DType::f32 && x.device() == Device::cpu && kernels::cpu().conv2d_forward_norm &&
         !Tape::current() && !Trace::current() && !DetectAnomaly::current();
}

Tensor conv2d_batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                         const Conv2dOptions& options, const RunningNorm& n, PackedWeight* packed) {
  check(can_conv2d_batch_norm(x), "conv2d_batch_norm: the input is ", x.dtype(), " on ", x.device(),
        ", or ops are being recorded; ask can_conv2d_batch_norm() first");
  const Conv2dParams p = geometry(x, weight, bias, options);
  ops::check_same_dtype("conv2d", x, weight);
  if (bias.defined()) ops::check_same_dtype("conv2d", x, bias);
  Tensor y = ops::empty({p.batch, p.out_h(), p.out_w(), p.out_c}, x);
  ops::check_norm_operands(y, n.residual,
                           {{"weight", &n.weight},
                            {"bias", &n.bias},
                            {"running_mean", &n.running_mean},
                            {"running_var", &n.running_var}});
  const Tensor invstd = ops::inverse_std(y, {n.running_mean, n.running_var}, n.options.eps);
  const ops::NormActivation activation(y, n.options, n.learned);
  const auto norm = activation.arguments<float>(y, n.weight, n.bias, n.running_mean, invstd, n.residual);
  const auto& k = kernels::cpu();
  const float* const b = bias.defined() ? bias.data<float>() : nullptr;
  if (const Tensor form = packed ? packed->get(p, weight) : Tensor(); form.defined())
    k.conv2d_forward_packed(p, x.data<float>(), form.raw(), b, &norm, y.data<float>());
  else
    k.conv2d_forward_norm(p, x.data<float>(), weight.data<float>(), b, norm, y.data<float>(),
                          workspace(k, p, ConvPass::forward, x.device()).raw());
  return y;
}

}  // namespace weft
