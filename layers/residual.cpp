#include "weft/layers/residual.h"

#include "weft/engine/ops/add_activation_pool.h"
#include "weft/engine/ops/batch_norm_avg_pool.h"
#include "weft/engine/ops/batch_norm_pair.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/layers/block_options.h"
#include "weft/layers/blur_pool.h"
#include "weft/layers/init.h"

namespace weft {
namespace {

// The last batch norm of the main branch applies the activation too, unless something comes in between.
BatchNormOptions last(const ResBlockOptions& o) {
  return o.self_attention || o.reduction > 0 ? BatchNormOptions{} : activated(o);
}

const ResBlockOptions& checked(const ResBlockOptions& o, std::string_view name) {
  check(o.expansion >= 1 && (o.stride == 1 || o.stride == 2), "ResBlock ", name, ": expansion ", o.expansion,
        ", stride ", o.stride, "; the expansion must be at least 1, the stride 1 or 2");
  check(o.width >= 0 && o.depthwise >= 0 && o.reduction >= 0, "ResBlock ", name, ": width ", o.width,
        ", depthwise ", o.depthwise, ", reduction ", o.reduction, "; none may be negative");
  check(o.depthwise == 0 || (o.expansion > 1 && o.groups == 1 && o.width == 0), "ResBlock ", name,
        ": depthwise ", o.depthwise, " needs a bottleneck (expansion above 1) without groups or width");
  check(o.depthwise > 0 || !o.depthwise_norm, "ResBlock ", name, ": depthwise_norm needs depthwise above 0");
  return o;
}

// Output channels of the 3x3 convolution: the first of a basic block, the second of a bottleneck.
int64_t width(const ResBlockOptions& o, int64_t hidden) {
  return o.depthwise > 0 ? hidden * o.depthwise : o.width > 0 ? o.width : hidden;
}
Conv2dLayerOptions spatial(const ResBlockOptions& o, int64_t hidden) {
  Conv2dLayerOptions conv = same(3, o.pool_first ? 1 : o.stride);
  conv.groups = o.depthwise > 0 ? hidden : o.groups;
  return conv;
}

std::unique_ptr<Module> make_pool(Module& parent, BlockPool kind) {
  if (kind == BlockPool::avg) return std::make_unique<AvgPool2d>(parent, "pool", kHalves);
  if (kind == BlockPool::max) return std::make_unique<MaxPool2d>(parent, "pool", kHalves);
  return std::make_unique<MaxBlurPool2d>(parent, "pool", kPyramidPool);
}

/// Whether a batch norm may be computed together with others, where nobody asks for its own result.
bool can_fuse(const BatchNorm2d& bn) {
  return bn.training() && !bn.has_hooks() && is_fixed(bn.options().activation);
}
/// Whether both may be computed at once, on a GPU.
bool can_pair(const ConvBn& shortcut, const BatchNorm2d& last, const Tensor& x) {
  return x.device() == Device::cuda && !shortcut.has_hooks() && can_fuse(shortcut.bn) && can_fuse(last);
}
/// The input of a batch norm after its convolution, in training.
BatchNormInput norm_input(Conv2d& conv, const BatchNorm2d& bn, const Tensor& x) {
  ChannelStats stats;
  const Tensor y = conv(x, &stats);
  return {y, bn.weight, bn.bias, bn.running_mean, bn.running_var, stats};
}

}  // namespace

Tensor conv_bn(Conv2d& conv, BatchNorm2d& bn, const Tensor& x, const Tensor& residual) {
  if (!conv.has_hooks() && can_conv2d_batch_norm(x))
    if (const std::optional<RunningNorm> norm = bn.running(residual)) {
      const ScopeName scope(conv.name());
      return conv.forward(x, *norm);
    }
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
                   const ResBlockOptions& options, Generator& generator)
    : Module(parent, name),
      conv1(*this, "conv1", in,
            options.expansion > 1 && options.depthwise > 0 ? hidden : width(options, hidden),
            options.expansion == 1 ? spatial(options, hidden) : same(1), generator),
      bn1(*this, "bn1", conv1.weight.size(0), activated(options), generator),
      conv2(*this, "conv2", conv1.weight.size(0), options.expansion == 1 ? hidden : width(options, hidden),
            options.expansion == 1 ? same(3) : spatial(options, hidden), generator),
      options_(checked(options, name)) {
  const ResBlockOptions& o = options_;
  const int64_t out = hidden * o.expansion;
  if (o.depthwise == 0 || o.depthwise_norm)
    bn2.emplace(*this, "bn2", conv2.weight.size(0), o.expansion == 1 ? last(o) : activated(o), generator);
  if (o.expansion != 1) {
    conv3.emplace(*this, "conv3", conv2.weight.size(0), out, same(1), generator);
    bn3.emplace(*this, "bn3", out, last(o), generator);
  }
  init::zeros_(bn3 ? bn3->weight : bn2->weight);
  if (o.reduction > 0)
    squeeze.emplace(
        *this, "squeeze", out, (out / o.reduction + 7) / 8 * 8,
        SqueezeExcitationOptions{.activation = o.activation, .activation_param = o.activation_param},
        generator);
  if (o.self_attention)
    attention.emplace(*this, "attention", out, SelfAttentionOptions{.symmetric = o.symmetric}, generator);
  if (o.stride != 1) pool = make_pool(*this, o.pool);
  if (in != out) shortcut.emplace(*this, "shortcut", in, out, ConvBnOptions{.kernel = 1}, generator);
  if (squeeze || attention) act.emplace(*this, "act", o.activation, o.activation_param, out, generator);
}

Tensor ResBlock::forward(const Tensor& x) { return forward({x, {}}, false).y; }

bool ResBlock::takes_halves() const {
  return pool && options_.pool == BlockPool::avg && !pool->has_hooks() && !pool->recomputes();
}

ResBlock::Output ResBlock::forward(const Output& in, bool wants_halves) {
  const Tensor& x = in.y;
  Tensor side = !pool ? x : in.halves.defined() ? in.halves : (*pool)(x);
  Tensor y = conv_bn(conv1, bn1, options_.pool_first ? side : x);
  if (conv3) y = bn2 ? conv_bn(conv2, *bn2, y) : conv2(y);
  Conv2d& last_conv = conv3 ? *conv3 : conv2;
  BatchNorm2d& last_bn = bn3 ? *bn3 : *bn2;
  if (shortcut && !squeeze && !attention && can_pair(*shortcut, last_bn, x)) {
    const BatchNormInput of_side = norm_input(shortcut->conv, shortcut->bn, side);
    return {batch_norm_pair(norm_input(last_conv, last_bn, y), of_side, last_bn.options(),
                            shortcut->bn.options()),
            {}};
  }
  if (shortcut) side = (*shortcut)(side);
  if (!squeeze && !attention) {
    if (!wants_halves || !can_fuse(last_bn)) return {conv_bn(last_conv, last_bn, y, side), {}};
    const BatchNormInput input = norm_input(last_conv, last_bn, y);
    const ScopeName scope(last_bn.name());
    auto [sum, halves] = batch_norm_avg_pool(input, side, last_bn.options());
    return {sum, halves};
  }
  y = conv_bn(last_conv, last_bn, y);
  if (squeeze) y = (*squeeze)(y);
  if (attention) y = (*attention)(y);
  if (!is_fixed(options_.activation) || act->has_hooks()) return {(*act)(y + side), {}};
  const ScopeName scope(act->name());
  if (!wants_halves) return {add_activation(y, side, options_.activation, options_.activation_param), {}};
  auto [sum, halves] = add_activation_pool(y, side, options_.activation, options_.activation_param);
  return {sum, halves};
}

std::string ResBlock::description() const {
  std::string s = options_.expansion == 1 ? "ResBlock(basic" : "ResBlock(bottleneck";
  if (options_.stride != 1) s += concat(options_.pool_first ? ", pool first" : ", stride 2");
  if (options_.groups != 1) s += concat(", groups ", options_.groups);
  if (options_.depthwise != 0)
    s += concat(", depthwise ", options_.depthwise, options_.depthwise_norm ? " with norm" : "");
  return s + concat(", ", activation_name(options_.activation), ")");
}

}  // namespace weft
