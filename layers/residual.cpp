#include "weft/layers/residual.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/layers/init.h"

namespace weft {
namespace {

Conv2dLayerOptions same(int64_t kernel, int64_t stride = 1) {
  return {.kernel = kernel, .stride = stride, .padding = kernel / 2, .bias = false};
}

BatchNormOptions activated(const ResBlockOptions& o) {
  return {.activation = o.activation, .activation_param = o.activation_param};
}

// The last batch norm of the main branch applies the activation too, unless attention comes in between.
BatchNormOptions last(const ResBlockOptions& o) {
  return o.self_attention ? BatchNormOptions{} : activated(o);
}

const ResBlockOptions& checked(const ResBlockOptions& o, std::string_view name) {
  check(o.expansion >= 1 && (o.stride == 1 || o.stride == 2), "ResBlock ", name, ": expansion ", o.expansion,
        ", stride ", o.stride, "; the expansion must be at least 1, the stride 1 or 2");
  return o;
}

}  // namespace

Tensor conv_bn(Conv2d& conv, BatchNorm2d& bn, const Tensor& x, const Tensor& residual) {
  ChannelStats stats;
  const Tensor y = conv(x, bn.training() ? &stats : nullptr);
  return bn(y, residual, stats);
}

ConvBn::ConvBn(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
               const ConvBnOptions& options, Generator& generator)
    : Module(parent, name),
      conv(*this, "conv", in_channels, out_channels, same(options.kernel, options.stride), generator),
      bn(*this, "bn", out_channels,
         {.activation = options.activation, .activation_param = options.activation_param}, generator) {}

ResBlock::ResBlock(Module& parent, std::string_view name, int64_t in, int64_t hidden,
                   const ResBlockOptions& o, Generator& generator)
    : Module(parent, name),
      conv1(*this, "conv1", in, hidden, o.expansion == 1 ? same(3, o.stride) : same(1), generator),
      bn1(*this, "bn1", hidden, activated(o), generator),
      conv2(*this, "conv2", hidden, hidden, o.expansion == 1 ? same(3) : same(3, o.stride), generator),
      bn2(*this, "bn2", hidden, o.expansion == 1 ? last(o) : activated(o), generator),
      options_(checked(o, name)) {
  const int64_t out = hidden * o.expansion;
  if (o.expansion != 1) {
    conv3.emplace(*this, "conv3", hidden, out, same(1), generator);
    bn3.emplace(*this, "bn3", out, last(o), generator);
  }
  init::zeros_(bn3 ? bn3->weight : bn2.weight);
  if (o.self_attention) {
    attention.emplace(*this, "attention", out, SelfAttentionOptions{.symmetric = o.symmetric}, generator);
    act.emplace(*this, "act", o.activation, o.activation_param, out, generator);
  }
  if (o.stride != 1) pool.emplace(*this, "pool", Pool2dOptions{.kernel = 2, .ceil_mode = true});
  if (in != out) shortcut.emplace(*this, "shortcut", in, out, ConvBnOptions{.kernel = 1}, generator);
}

Tensor ResBlock::forward(const Tensor& x) {
  Tensor y = conv_bn(conv1, bn1, x);
  if (conv3) y = conv_bn(conv2, bn2, y);
  Conv2d& last_conv = conv3 ? *conv3 : conv2;
  BatchNorm2d& last_bn = bn3 ? *bn3 : bn2;
  Tensor side = x;
  if (pool) side = (*pool)(side);
  if (shortcut) side = (*shortcut)(side);
  if (!attention) return conv_bn(last_conv, last_bn, y, side);
  y = (*attention)(conv_bn(last_conv, last_bn, y));
  return (*act)(y + side);
}

std::string ResBlock::description() const {
  std::string s = options_.expansion == 1 ? "ResBlock(basic" : "ResBlock(bottleneck";
  if (options_.stride != 1) s += concat(", stride ", options_.stride);
  return s + concat(", ", activation_name(options_.activation), ")");
}

}  // namespace weft
