#include "weft/layers/separable_conv.h"

#include "weft/layers/block_options.h"
#include "weft/layers/residual.h"

namespace weft {

DepthwiseSeparableConv::DepthwiseSeparableConv(Module& parent, std::string_view name, int64_t in, int64_t out,
                                               const DepthwiseSeparableConvOptions& o, Generator& generator)
    : Module(parent, name),
      depthwise(
          *this, "depthwise", in, in * o.multiplier,
          {.kernel = o.kernel, .stride = o.stride, .padding = o.kernel / 2, .groups = in, .bias = false},
          generator),
      pointwise(*this, "pointwise", in * o.multiplier, out, {.kernel = 1, .bias = false}, generator),
      norm(*this, "norm", out, activated(o), generator) {
  if (o.norm_between) between.emplace(*this, "between", in * o.multiplier, activated(o), generator);
}

Tensor DepthwiseSeparableConv::forward(const Tensor& x) {
  const Tensor y = between ? conv_bn(depthwise, *between, x) : depthwise(x);
  return conv_bn(pointwise, norm, y);
}

}  // namespace weft
