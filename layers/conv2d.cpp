#include "weft/layers/conv2d.h"

#include "weft/engine/tape.h"

namespace weft {

Tensor Conv2d::operator()(const Tensor& x, ChannelStats* stats) {
  Tensor computed;
  const Tensor y = call(x, [&](const Tensor& in) { return computed = forward(in, stats); });
  if (stats && y.raw() != computed.raw()) *stats = {};  // a hook has put something else in its place
  return y;
}

namespace {

Conv2dOptions op_options(const Conv2dLayerOptions& o) {
  return {.stride = o.stride, .padding = o.padding, .dilation = o.dilation, .groups = o.groups};
}

}  // namespace

Tensor Conv2d::forward(const Tensor& x, ChannelStats* stats) {
  return conv2d(x, weight, bias, op_options(options()), stats, packed());
}

Tensor Conv2d::forward(const Tensor& x, const RunningNorm& norm) {
  return conv2d_batch_norm(x, weight, bias, op_options(options()), norm, packed());
}

PackedWeight* Conv2d::packed() {
  if (optimized_for_inference()) return &packed_;
  packed_.release();
  return nullptr;
}

}  // namespace weft
