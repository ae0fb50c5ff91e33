#include "weft/layers/cifar_resnet.h"

#include "weft/engine/ops/shape.h"
#include "weft/layers/block_options.h"
#include "weft/layers/init.h"

namespace weft {

CifarBlock::CifarBlock(Module& parent, std::string_view name, int64_t in, int64_t out, int64_t stride,
                       const CifarResNetOptions& o, Generator& generator)
    : Module(parent, name),
      conv1(*this, "conv1", in, out, same(3, stride), generator),
      bn1(*this, "bn1", out, activated(o), generator),
      conv2(*this, "conv2", out, out, same(3, 1), generator),
      bn2(*this, "bn2", out, activated(o), generator),
      stride_(stride),
      added_((out - in) / 2) {
  const bool changes = in != out || stride != 1;
  if (changes && o.shortcut == CifarShortcut::B)
    shortcut.emplace(*this, "shortcut", in, out, ConvBnOptions{.kernel = 1, .stride = stride}, generator);
  else
    check(out >= in && (out - in) % 2 == 0, "CifarBlock ", name, ": ", in, " input and ", out,
          " output channels; shortcut A adds as many channels before as behind");
}

Tensor CifarBlock::forward(const Tensor& x) {
  Tensor side = x;
  if (shortcut) {
    side = (*shortcut)(x);
  } else {
    if (stride_ != 1) side = avg_pool2d(x, {.kernel = 1, .stride = stride_});  // every second pixel
    if (added_ > 0) {
      const Tensor zeros =
          Tensor::zeros({side.size(0), side.size(1), side.size(2), added_}, x.dtype(), x.device());
      side = concat({zeros, side, zeros}, 3);
    }
  }
  return conv_bn(conv2, bn2, conv_bn(conv1, bn1, x), side);
}

std::string CifarBlock::description() const {
  return stride_ == 1 ? "CifarBlock" : concat("CifarBlock(stride ", stride_, ")");
}

CifarResNet::CifarResNet(Module* parent, std::string_view name, int depth, const CifarResNetOptions& o,
                         Generator& generator)
    : Module(parent, name),
      conv1(*this, "conv1", o.in_channels, 16, same(3, 1), generator),
      bn1(*this, "bn1", 16, activated(o), generator),
      linear(*this, "linear", 64, o.classes, {}, generator),
      depth_(depth) {
  check(depth >= 8 && depth % 6 == 2, "CifarResNet: there is no depth ", depth,
        "; it must be 6 n + 2: 20, 32, 44, 56, 110");
  int64_t in = 16;
  for (Sequential* stage : {&layer1, &layer2, &layer3}) {
    const int64_t out = stage == &layer1 ? 16 : 2 * in;
    for (int b = 0; b < depth / 6; ++b, in = out)
      stage->emplace<CifarBlock>(std::to_string(b), in, out, stage != &layer1 && b == 0 ? 2 : 1, o, generator)
          .recompute(o.recompute);
  }
  visit([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) init::kaiming_normal_(conv->weight, {}, generator);
  });
  init::kaiming_normal_(linear.weight, {}, generator);
}

Tensor CifarResNet::forward(const Tensor& x) {
  Tensor y = conv_bn(conv1, bn1, x);
  y = layer1(y);
  y = layer2(y);
  y = layer3(y);
  return linear(avgpool(y));
}

std::string CifarResNet::description() const {
  return concat("CifarResNet", depth_, "(", activation_name(bn1.options().activation), ")");
}

}  // namespace weft
