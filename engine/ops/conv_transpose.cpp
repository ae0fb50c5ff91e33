#include "weft/engine/ops/conv_transpose.h"

#include "weft/engine/ops/conv_passes.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/ops/split.h"

namespace weft {
namespace {

using kernels::Conv2dParams;

/// The size of the output along one axis with its padding.
double padded_size(int64_t in, int64_t kernel, const ConvTransposeOptions& o) {
  return double(in - 1) * double(o.stride) + double(o.dilation) * double(kernel - 1) +
         double(o.output_padding) + 1;
}
/// And without.
int64_t output_size(const char* op, int64_t in, int64_t kernel, const ConvTransposeOptions& o) {
  const auto padded = int64_t(padded_size(in, kernel, o));
  check(o.padding <= (padded - 1) / 2, op, ": an input of size ", in, " with kernel ", kernel, ", stride ",
        o.stride, ", dilation ", o.dilation, " and padding ", o.padding, " leaves nothing of a size of ",
        padded);
  return padded - 2 * o.padding;
}

/// x, weight: as for conv_transpose2d, or with a height of 1 for sequences.
void check_operands(const char* op, const char* expected, int ndim, const Tensor& x, const Tensor& w,
                    const Tensor& bias, const ConvTransposeOptions& o) {
  check(x.ndim() == ndim && w.ndim() == ndim, op, ": expected input and weight ", expected, ", got ",
        x.shape(), " and ", w.shape());
  check(o.stride >= 1 && o.dilation >= 1 && o.padding >= 0 && o.groups >= 1, op, ": stride ", o.stride,
        ", dilation ", o.dilation, " and groups ", o.groups, " must be at least 1, padding ", o.padding,
        " at least 0");
  check(o.output_padding >= 0 && o.output_padding < o.stride, op, ": output_padding ", o.output_padding,
        " must be at least 0 and smaller than the stride ", o.stride);
  check(x.size(-1) == w.size(0), op, ": input has ", x.size(-1), " channels but weight ", w.shape(),
        " expects ", w.size(0));
  check(w.size(0) % o.groups == 0, op, ": ", w.size(0), " input channels can't be split into ", o.groups,
        " groups");
  const int64_t out = w.size(-1) * o.groups;
  check(!bias.defined() || bias.shape() == Shape{out}, op, ": bias ", bias.defined() ? bias.shape() : Shape{},
        " does not fit weight ", w.shape(), "; expected [", out, "]");
  check(x.numel() > 0 && w.numel() > 0, op, ": empty input ", x.shape(), " or weight ", w.shape());
}

// With the convolution p that would lead from the output back to x's shape, this is its input's gradient at
// x.
Tensor transposed(const char* op, const Conv2dParams& p, const Tensor& x, const Tensor& weight) {
  const bool mixed = is_half(x.dtype()) && weight.dtype() == DType::f32;
  const Tensor w = mixed ? cast(weight, x.dtype()) : weight;
  ops::check_same_dtype(op, x, w);
  return ops::conv2d_backward_input(p, x, w, op);
}

Tensor with_bias(const char* op, const Tensor& y, const Tensor& bias) {
  if (!bias.defined()) return y;
  // In mixed precision the bias is f32.
  if (is_half(y.dtype())) return add(y, cast(bias, y.dtype()));
  ops::check_same_dtype(op, y, bias);
  return add(y, bias);
}

Tensor with_height(const Tensor& x) { return reshape(x, {x.size(0), 1, x.size(1), x.size(2)}); }
Tensor without_height(const Tensor& x) { return reshape(x, {x.size(0), x.size(2), x.size(3)}); }

}  // namespace

Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const ConvTransposeOptions& o) {
  check_operands("conv_transpose2d", "[N, H, W, C] and [C, KH, KW, OC/groups]", 4, x, weight, bias, o);
  Conv2dParams p;
  p.batch = x.size(0), p.in_c = weight.size(3) * o.groups, p.out_c = x.size(3), p.groups = o.groups;
  p.bf16 = ops::rounds_to_bf16(x);
  p.kernel_h = weight.size(1), p.kernel_w = weight.size(2);
  ops::set_steps("conv_transpose2d", padded_size(x.size(1), p.kernel_h, o),
                 padded_size(x.size(2), p.kernel_w, o), o.stride, o.padding, o.dilation, p);
  p.in_h = output_size("conv_transpose2d", x.size(1), p.kernel_h, o);
  p.in_w = output_size("conv_transpose2d", x.size(2), p.kernel_w, o);
  return with_bias("conv_transpose2d", transposed("conv_transpose2d", p, x, weight), bias);
}

Tensor conv_transpose1d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const ConvTransposeOptions& o) {
  check_operands("conv_transpose1d", "[N, L, C] and [C, K, OC/groups]", 3, x, weight, bias, o);
  Conv2dParams p;
  p.batch = x.size(0), p.in_c = weight.size(2) * o.groups, p.out_c = x.size(2), p.groups = o.groups;
  p.bf16 = ops::rounds_to_bf16(x);
  p.kernel_w = weight.size(1);
  ops::set_steps("conv_transpose1d", 1, padded_size(x.size(1), p.kernel_w, o), o.stride, o.padding,
                 o.dilation, p);
  p.pad_h = 0;
  p.in_w = output_size("conv_transpose1d", x.size(1), p.kernel_w, o);
  const Tensor y = transposed("conv_transpose1d", p, with_height(x), with_height(weight));
  return with_bias("conv_transpose1d", without_height(y), bias);
}

Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  check(x.ndim() == 3 && weight.ndim() == 3,
        "conv1d: expected input [N, L, C] and weight [OC, K, C/groups], got ", x.shape(), " and ",
        weight.shape());
  check(options.groups < 1 || options.groups > x.size(2) || weight.size(2) * options.groups == x.size(2),
        "conv1d: input has ", x.size(2), " channels but weight ", weight.shape(), " with groups ",
        options.groups, " expects ", weight.size(2) * options.groups);
  // As an image of height 1, which must not be padded above and below.
  Conv2dOptions o = options;
  o.padding = 0;
  const Tensor padded = pad(x, {0, 0, options.padding, options.padding});
  return without_height(conv2d(with_height(padded), with_height(weight), bias, o));
}

}  // namespace weft
