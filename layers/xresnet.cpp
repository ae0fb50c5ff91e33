#include "weft/layers/xresnet.h"

#include <array>

#include "weft/layers/init.h"
#include "weft/layers/residual.h"

namespace weft {
namespace {

struct Plan {
  int depth;
  int64_t expansion;
  std::array<int, 4> blocks;  // in each stage
};
constexpr Plan kPlans[] = {
    {18, 1, {2, 2, 2, 2}},   {34, 1, {3, 4, 6, 3}},   {50, 4, {3, 4, 6, 3}},
    {101, 4, {3, 4, 23, 3}}, {152, 4, {3, 8, 36, 3}},
};

const Plan& plan_of(int depth) {
  for (const Plan& p : kPlans)
    if (p.depth == depth) return p;
  fail("XResNet: there is no depth ", depth, "; known: 18, 34, 50, 101, 152");
}

void initialize(Module& root, Generator& generator) {
  root.visit([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) init::kaiming_normal_(conv->weight, {}, generator);
    if (auto* linear = dynamic_cast<Linear*>(&module)) {
      init::kaiming_normal_(linear->weight, {}, generator);
      init::zeros_(linear->bias);
    }
  });
}

}  // namespace

XResNet::XResNet(int depth, const XResNetOptions& options, Generator& generator) : depth_(depth) {
  build(options, generator);
}
XResNet::XResNet(Module& parent, std::string_view name, int depth, const XResNetOptions& options,
                 Generator& generator)
    : Module(parent, name), depth_(depth) {
  build(options, generator);
}

void XResNet::build(const XResNetOptions& o, Generator& generator) {
  const Plan& plan = plan_of(depth_);
  check(o.in_channels > 0 && o.classes > 0, "XResNet: ", o.in_channels, " input channels and ", o.classes,
        " classes; both must be positive");
  activation_ = o.activation.value_or(Activation::mish);

  const int64_t widths[] = {o.in_channels, 32, 64, 64};
  for (int i = 0; i < 3; ++i) {
    const ConvBnOptions options{
        .stride = i == 0 ? 2 : 1, .activation = activation_, .activation_param = o.activation_param};
    stem.emplace<ConvBn>(std::to_string(i), widths[i], widths[i + 1], options, generator)
        .recompute(o.recompute);
  }

  int64_t in = 64, hidden = 64;
  for (int s = 0; s < 4; ++s, hidden *= 2) {
    auto& stage = stages.emplace<Sequential>(std::to_string(s));
    const int blocks = plan.blocks[size_t(s)];
    for (int b = 0; b < blocks; ++b) {
      const ResBlockOptions options{.expansion = plan.expansion,
                                    .stride = s > 0 && b == 0 ? 2 : 1,
                                    .activation = activation_,
                                    .activation_param = o.activation_param,
                                    .self_attention = o.self_attention && s == 0 && b == blocks - 1,
                                    .symmetric = o.symmetric};
      stage.emplace<ResBlock>(std::to_string(b), in, hidden, options, generator).recompute(o.recompute);
      in = hidden * plan.expansion;
    }
  }
  head.emplace(*this, "head", in, o.classes, LinearOptions{}, generator);
  initialize(*this, generator);
}

Tensor XResNet::forward(const Tensor& x) {
  // One after the other: the temporaries of a single expression would live to its end, the stem's output too.
  Tensor y = stem(x);
  y = pool(y);
  y = stages(y);
  return (*head)(avgpool(y));
}

std::string XResNet::description() const {
  return concat("XResNet", depth_, "(", activation_name(activation_), ")");
}

}  // namespace weft
