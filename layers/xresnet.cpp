#include "weft/layers/xresnet.h"

#include <utility>
#include <vector>

#include "weft/engine/ops/batch_norm_max_pool.h"
#include "weft/layers/blur_pool.h"
#include "weft/layers/init.h"
#include "weft/layers/separable_conv.h"

namespace weft {
namespace {

std::unique_ptr<Module> make_stem_pool(Module& parent, const XResNetPlan& plan) {
  if (plan.max_blur_stem) return std::make_unique<MaxBlurPool2d>(parent, "pool", kPyramidPool);
  return std::make_unique<MaxPool2d>(parent, "pool", Pool2dOptions{.kernel = 3, .stride = 2, .padding = 1});
}

bool is_plain(const Module& m) { return !m.has_hooks() && !m.recomputes(); }

/// pool(stem(x)). In training on a GPU the stem's last batch norm and a MaxPool2d are one op, where nobody
/// asks for the result of one.
Tensor stem_and_pool(Sequential& stem, Module& pool, const Tensor& x) {
  auto* const last = dynamic_cast<ConvBn*>(&stem[stem.size() - 1]);
  auto* const max = dynamic_cast<MaxPool2d*>(&pool);
  if (!last || !max || x.device() != Device::cuda || !last->bn.training() || !is_plain(stem) ||
      !is_plain(*last) || !is_plain(last->bn) || !is_plain(pool) ||
      !is_fixed(last->bn.options().activation)) {
    const Tensor y = stem(x);
    return pool(y);
  }
  const ScopeName of_stem(stem.name());
  Tensor y = x;
  for (size_t i = 0; i + 1 < stem.size(); ++i) y = stem[i](y);
  const ScopeName of_last(last->name());
  ChannelStats stats;
  y = last->conv(y, &stats);
  const BatchNorm2d& bn = last->bn;
  const ScopeName of_bn(bn.name());
  return batch_norm_max_pool({y, bn.weight, bn.bias, bn.running_mean, bn.running_var, stats}, max->options(),
                             bn.options());
}

/// stages(x). In training on a GPU the last block of a stage hands its output to the next one with the
/// average over 2x2 that the shortcut there begins with, where nobody asks for what lies between.
Tensor through(Sequential& stages, const Tensor& x) {
  std::vector<std::pair<Sequential*, std::vector<ResBlock*>>> all;
  bool plain = x.device() == Device::cuda && stages.training() && is_plain(stages);
  for (size_t s = 0; s < stages.size() && plain; ++s) {
    auto* const stage = dynamic_cast<Sequential*>(&stages[s]);
    plain = stage && is_plain(*stage);
    all.emplace_back(stage, std::vector<ResBlock*>());
    for (size_t b = 0; plain && b < stage->size(); ++b) {
      auto* const block = dynamic_cast<ResBlock*>(&(*stage)[b]);
      plain = block && is_plain(*block);
      all.back().second.push_back(block);
    }
  }
  if (!plain) return stages(x);
  const ScopeName of_stages(stages.name());
  ResBlock::Output y{x, {}};
  for (size_t s = 0; s < all.size(); ++s) {
    const auto& [stage, blocks] = all[s];
    const ScopeName of_stage(stage->name());
    const bool pooled_next =
        s + 1 < all.size() && !all[s + 1].second.empty() && all[s + 1].second[0]->takes_halves();
    for (ResBlock* const block : blocks) {
      const ScopeName of_block(block->name());
      y = block->forward(y, pooled_next && block == blocks.back());
    }
  }
  return y.y;
}

}  // namespace

XResNet::XResNet(int depth, const XResNetOptions& options, Generator& generator)
    : XResNet(xresnet_plan(depth), options, generator) {}
XResNet::XResNet(Module& parent, std::string_view name, int depth, const XResNetOptions& options,
                 Generator& generator)
    : XResNet(parent, name, xresnet_plan(depth), options, generator) {}
XResNet::XResNet(const XResNetPlan& plan, const XResNetOptions& options, Generator& generator)
    : pool(make_stem_pool(*this, plan)) {
  build(plan, options, generator);
}
XResNet::XResNet(Module& parent, std::string_view name, const XResNetPlan& plan,
                 const XResNetOptions& options, Generator& generator)
    : Module(parent, name), pool(make_stem_pool(*this, plan)) {
  build(plan, options, generator);
}

void XResNet::build(const XResNetPlan& plan, const XResNetOptions& o, Generator& generator) {
  check(o.in_channels > 0 && o.classes > 0, "XResNet: ", o.in_channels, " input channels and ", o.classes,
        " classes; both must be positive");
  plan_name_ = plan.name;
  activation_ = o.activation.value_or(Activation::mish);

  int64_t in = o.in_channels;
  for (size_t i = 0; i < plan.stem.size(); in = plan.stem[i++]) {
    const std::string name = std::to_string(i);
    const int64_t stride = i == 0 ? 2 : 1;
    if (plan.separable_stem > 0)
      stem.emplace<DepthwiseSeparableConv>(
              name, in, plan.stem[i],
              DepthwiseSeparableConvOptions{.stride = stride,
                                            .multiplier = plan.separable_stem,
                                            .activation = activation_,
                                            .activation_param = o.activation_param},
              generator)
          .recompute(o.recompute);
    else
      stem.emplace<ConvBn>(
              name, in, plan.stem[i],
              ConvBnOptions{
                  .stride = stride, .activation = activation_, .activation_param = o.activation_param},
              generator)
          .recompute(o.recompute);
  }

  int64_t hidden = 64;
  for (int s = 0; s < 4; ++s, hidden *= 2) {
    auto& stage = stages.emplace<Sequential>(std::to_string(s));
    const int blocks = plan.blocks[size_t(s)];
    for (int b = 0; b < blocks; ++b) {
      ResBlockOptions block = plan.block;
      block.stride = s > 0 && b == 0 ? 2 : 1;
      block.activation = activation_;
      block.activation_param = o.activation_param;
      block.self_attention = o.self_attention && s == 0 && b == blocks - 1;
      block.symmetric = o.symmetric;
      if (plan.base_width > 0) block.width = hidden * plan.base_width / 64 * block.groups;
      stage.emplace<ResBlock>(std::to_string(b), in, hidden, block, generator).recompute(o.recompute);
      in = hidden * block.expansion;
    }
  }
  head.emplace(*this, "head", in, o.classes, LinearOptions{}, generator);
  init::kaiming_normal_all_(*this, generator);
}

Tensor XResNet::forward(const Tensor& x) {
  // One after the other: the temporaries of a single expression would live to its end.
  Tensor y = stem_and_pool(stem, *pool, x);
  y = through(stages, y);
  return (*head)(avgpool(y));
}

std::string XResNet::description() const {
  return concat(plan_name_, "(", activation_name(activation_), ")");
}

}  // namespace weft
