#pragma once

#include <optional>

#include "weft/layers/linear.h"
#include "weft/layers/pool.h"
#include "weft/layers/residual.h"
#include "weft/layers/sequential.h"

namespace weft {

struct CifarResNetV2Options {
  Activation activation = Activation::relu;
  std::optional<double> activation_param = {};
  bool recompute = false;  ///< keep only the blocks' inputs in training, see Module::recompute
  int64_t in_channels = 3;
  int64_t classes = 10;
};

/// Bottleneck with full pre-activation (He et al., 2016, figure 4e): y = conv3(a(bn3(conv2(a(bn2(conv1(a(bn1(
/// x))))))))) + shortcut(x), a the activation, 1x1, 3x3 and 1x1 convolutions without bias, the first with the
/// stride; x [N, H, W, in] -> [N, H / stride, W / stride, out], rounded up.
class CifarBlockV2 : public Module {
 public:
  struct Plan {
    int64_t in_channels, width, out_channels, stride = 1;
    bool activate = true;  ///< bn1 and the activation behind it; without, x is activated already
    /// The shortcut is a 1x1 convolution with the stride of x as it comes; else it is x.
    bool project = false;
  };
  CifarBlockV2(Module& parent, std::string_view name, const Plan& plan,
               const CifarResNetV2Options& options = {}, Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  std::optional<BatchNorm2d> bn1;
  Conv2d conv1;
  BatchNorm2d bn2;
  Conv2d conv2;
  BatchNorm2d bn3;
  Conv2d conv3;
  std::optional<Conv2d> shortcut;

 private:
  int64_t stride_;
};

/// The ResNet v2 for 32x32 images ("Identity mappings in deep residual networks", He et al., 2016, arXiv
/// 1603.05027) in the form of Keras's examples/cifar10_resnet.py, which the Mish paper's networks v2-20 to
/// v2-245 have: depth 9 n + 2, a 3x3 convolution to 16 channels with batch norm and activation, three stages
/// of n bottlenecks with widths 16, 64, 128 that end in 64, 128, 256 channels, batch norm and activation,
/// mean over the image, Linear. The first block of a stage has a projection, that of the first stage no
/// activation of its own. Images [N, H, W, in_channels] of any size -> logits [N, classes].
///
/// Convolutions have no bias (Keras's do). Weights start with kaiming_normal_, biases as Linear's. Names:
/// conv1, bn1, layer1.0.conv1, layer1.0.shortcut, bn, linear.
class CifarResNetV2 : public Module {
 public:
  explicit CifarResNetV2(int depth, const CifarResNetV2Options& options = {},
                         Generator& generator = default_generator())
      : CifarResNetV2(nullptr, {}, depth, options, generator) {}
  CifarResNetV2(Module& parent, std::string_view name, int depth, const CifarResNetV2Options& options = {},
                Generator& generator = default_generator())
      : CifarResNetV2(&parent, name, depth, options, generator) {}
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Conv2d conv1;
  BatchNorm2d bn1;
  Sequential layer1{*this, "layer1"}, layer2{*this, "layer2"}, layer3{*this, "layer3"};
  BatchNorm2d bn;
  GlobalAvgPool avgpool{*this, "avgpool"};
  Linear linear;

 private:
  CifarResNetV2(Module* parent, std::string_view name, int depth, const CifarResNetV2Options& options,
                Generator& generator);

  int depth_;
};

}  // namespace weft
