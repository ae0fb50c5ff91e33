#include "weft/layers/cifar_resnet_v2.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/layers/block_options.h"
#include "weft/layers/init.h"

namespace weft {

CifarBlockV2::CifarBlockV2(Module& parent, std::string_view name, const Plan& p,
                           const CifarResNetV2Options& o, Generator& generator)
    : Module(parent, name),
      conv1(*this, "conv1", p.in_channels, p.width, same(1, p.stride), generator),
      bn2(*this, "bn2", p.width, activated(o), generator),
      conv2(*this, "conv2", p.width, p.width, same(3), generator),
      bn3(*this, "bn3", p.width, activated(o), generator),
      conv3(*this, "conv3", p.width, p.out_channels, same(1), generator),
      stride_(p.stride) {
  check(p.project || (p.in_channels == p.out_channels && p.stride == 1), "CifarBlockV2 ", name, ": ",
        p.in_channels, " input and ", p.out_channels, " output channels, stride ", p.stride,
        "; where they change the shortcut must be a projection");
  if (p.activate) bn1.emplace(*this, "bn1", p.in_channels, activated(o), generator);
  if (p.project)
    shortcut.emplace(*this, "shortcut", p.in_channels, p.out_channels, same(1, p.stride), generator);
}

Tensor CifarBlockV2::forward(const Tensor& x) {
  const Tensor y = bn1 ? (*bn1)(x) : x;
  return add(conv3(conv_bn(conv2, bn3, conv_bn(conv1, bn2, y))), shortcut ? (*shortcut)(x) : x);
}

std::string CifarBlockV2::description() const {
  return stride_ == 1 ? "CifarBlockV2" : concat("CifarBlockV2(stride ", stride_, ")");
}

CifarResNetV2::CifarResNetV2(Module* parent, std::string_view name, int depth, const CifarResNetV2Options& o,
                             Generator& generator)
    : Module(parent, name),
      conv1(*this, "conv1", o.in_channels, 16, same(3), generator),
      bn1(*this, "bn1", 16, activated(o), generator),
      bn(*this, "bn", 256, activated(o), generator),
      linear(*this, "linear", 256, o.classes, {}, generator),
      depth_(depth) {
  check(depth >= 11 && depth % 9 == 2, "CifarResNetV2: there is no depth ", depth,
        "; it must be 9 n + 2: 20, 29, 56, 110, 164");
  int64_t in = 16;
  for (Sequential* stage : {&layer1, &layer2, &layer3}) {
    const int64_t width = in, out = stage == &layer1 ? 64 : 2 * in;
    for (int b = 0; b < depth / 9; ++b, in = out)
      stage
          ->emplace<CifarBlockV2>(std::to_string(b),
                                  CifarBlockV2::Plan{.in_channels = in,
                                                     .width = width,
                                                     .out_channels = out,
                                                     .stride = stage != &layer1 && b == 0 ? 2 : 1,
                                                     .activate = stage != &layer1 || b > 0,
                                                     .project = b == 0},
                                  o, generator)
          .recompute(o.recompute);
  }
  visit([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) init::kaiming_normal_(conv->weight, {}, generator);
  });
  init::kaiming_normal_(linear.weight, {}, generator);
}

Tensor CifarResNetV2::forward(const Tensor& x) {
  Tensor y = conv_bn(conv1, bn1, x);
  y = layer1(y);
  y = layer2(y);
  y = layer3(y);
  return linear(avgpool(bn(y)));
}

std::string CifarResNetV2::description() const {
  return concat("CifarResNetV2-", depth_, "(", activation_name(bn1.options().activation), ")");
}

}  // namespace weft
