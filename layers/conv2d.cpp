#include "weft/layers/conv2d.h"

#include "weft/engine/tape.h"

namespace weft {

Tensor Conv2d::operator()(const Tensor& x, ChannelStats* stats) {
  Tensor computed;
  const Tensor y = call(x, [&](const Tensor& in) { return computed = forward(in, stats); });
  if (stats && y.raw() != computed.raw()) *stats = {};  // a hook has put something else in its place
  return y;
}

Tensor Conv2d::forward(const Tensor& x, ChannelStats* stats) {
  const Options& o = options();
  if (!optimized_for_inference()) packed_.release();
  return conv2d(x, weight, bias,
                {.stride = o.stride, .padding = o.padding, .dilation = o.dilation, .groups = o.groups}, stats,
                optimized_for_inference() ? &packed_ : nullptr);
}

}  // namespace weft
