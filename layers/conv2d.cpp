#include "weft/layers/conv2d.h"

#include <cmath>

#include "weft/engine/ops/conv.h"
#include "weft/engine/tape.h"
#include "weft/layers/init.h"

namespace weft {

Conv2d::Conv2d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
               const Conv2dLayerOptions& options, Generator& generator)
    : Module(parent, name), options_(options) {
  check(in_channels > 0 && out_channels > 0, "Conv2d ", name, ": ", in_channels, " input and ", out_channels,
        " output channels; both must be positive");
  check(options.kernel > 0 && options.stride > 0 && options.dilation > 0 && options.padding >= 0, "Conv2d ",
        name, ": kernel ", options.kernel, ", stride ", options.stride, ", dilation ", options.dilation,
        ", padding ", options.padding, "; the padding must not be negative, the others must be positive");
  check(options.groups > 0 && in_channels % options.groups == 0 && out_channels % options.groups == 0,
        "Conv2d ", name, ": ", in_channels, " input and ", out_channels,
        " output channels can't be split into ", options.groups, " groups");
  const int64_t k = options.kernel, group_in = in_channels / options.groups;
  const double bound = 1 / std::sqrt(double(k * k * group_in));
  weight = register_parameter(
      "weight", init::uniform_(Tensor::empty({out_channels, k, k, group_in}), -bound, bound, generator));
  if (options.bias)
    bias =
        register_parameter("bias", init::uniform_(Tensor::empty({out_channels}), -bound, bound, generator));
}

Tensor Conv2d::operator()(const Tensor& x, ChannelStats* stats) {
  Tensor computed;
  const Tensor y = call(x, [&](const Tensor& in) { return computed = forward(in, stats); });
  if (stats && y.raw() != computed.raw()) *stats = {};  // a hook has put something else in its place
  return y;
}

Tensor Conv2d::forward(const Tensor& x, ChannelStats* stats) {
  return conv2d(x, weight, bias,
                {.stride = options_.stride,
                 .padding = options_.padding,
                 .dilation = options_.dilation,
                 .groups = options_.groups},
                stats);
}

std::string Conv2d::description() const {
  const Conv2dLayerOptions& o = options_;
  std::string s = concat("Conv2d(", weight.size(-1) * o.groups, ", ", weight.size(0), ", kernel ", o.kernel);
  if (o.stride != 1) s += concat(", stride ", o.stride);
  if (o.padding != 0) s += concat(", padding ", o.padding);
  if (o.dilation != 1) s += concat(", dilation ", o.dilation);
  if (o.groups != 1) s += concat(", groups ", o.groups);
  return s + (o.bias ? ")" : ", no bias)");
}

}  // namespace weft
