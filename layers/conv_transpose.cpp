#include "weft/layers/conv_transpose.h"

#include "weft/engine/ops/conv_transpose.h"

namespace weft {
namespace {

ConvTransposeOptions op_options(const ConvTransposeLayerOptions& o) {
  return {.stride = o.stride,
          .padding = o.padding,
          .output_padding = o.output_padding,
          .dilation = o.dilation,
          .groups = o.groups};
}

}  // namespace

Tensor ConvTranspose2d::forward(const Tensor& x) {
  return conv_transpose2d(x, weight, bias, op_options(options()));
}

Tensor ConvTranspose1d::forward(const Tensor& x) {
  return conv_transpose1d(x, weight, bias, op_options(options()));
}

Tensor Conv1d::forward(const Tensor& x) {
  const Options& o = options();
  return conv1d(x, weight, bias,
                {.stride = o.stride, .padding = o.padding, .dilation = o.dilation, .groups = o.groups});
}

}  // namespace weft
