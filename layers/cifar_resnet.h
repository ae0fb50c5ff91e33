#pragma once

#include <optional>

#include "weft/layers/linear.h"
#include "weft/layers/pool.h"
#include "weft/layers/residual.h"
#include "weft/layers/sequential.h"

namespace weft {

/// How a shortcut of CifarResNet comes to more channels and fewer pixels.
enum class CifarShortcut : uint8_t {
  A,  ///< every second pixel, zeros for the new channels, half of them before and half behind; no parameters
  B,  ///< 1x1 convolution with the stride, and batch norm
};

struct CifarResNetOptions {
  Activation activation = Activation::relu;
  std::optional<double> activation_param = {};
  CifarShortcut shortcut = CifarShortcut::A;
  bool recompute = false;  ///< keep only the blocks' inputs in training, see Module::recompute
  int64_t in_channels = 3;
  int64_t classes = 10;
};

/// Basic block of He et al., 2015: y = activation(bn2(conv2(activation(bn1(conv1(x))))) + shortcut(x)), 3x3
/// convolutions without bias, the first with the stride; x [N, H, W, in] -> [N, H / stride, W / stride, out],
/// rounded up.
class CifarBlock : public Module {
 public:
  CifarBlock(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels, int64_t stride,
             const CifarResNetOptions& options = {}, Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Conv2d conv1;
  BatchNorm2d bn1;
  Conv2d conv2;
  BatchNorm2d bn2;
  std::optional<ConvBn> shortcut;  ///< option B, where the sizes change

 private:
  int64_t stride_, added_;  // channels that option A adds on each side
};

/// The ResNets for 32x32 images of "Deep residual learning" (He et al., 2015, arXiv 1512.03385, section 4.2):
/// depth 6 n + 2, a 3x3 convolution to 16 channels, three stages of n blocks with 16, 32 and 64 channels,
/// mean over the image, Linear. Images [N, H, W, in_channels] of any size -> logits [N, classes]. Weights
/// start with kaiming_normal_, biases as Linear's.
///
/// Names and shortcut are those of the network that the Mish repository trains on CIFAR-10
/// (github.com/digantamisra98/Mish at ec1faeb, exps/resnet.py): conv1, bn1, layer1.0.conv1, linear.
class CifarResNet : public Module {
 public:
  explicit CifarResNet(int depth, const CifarResNetOptions& options = {},
                       Generator& generator = default_generator())
      : CifarResNet(nullptr, {}, depth, options, generator) {}
  CifarResNet(Module& parent, std::string_view name, int depth, const CifarResNetOptions& options = {},
              Generator& generator = default_generator())
      : CifarResNet(&parent, name, depth, options, generator) {}
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Conv2d conv1;
  BatchNorm2d bn1;
  Sequential layer1{*this, "layer1"}, layer2{*this, "layer2"}, layer3{*this, "layer3"};
  GlobalAvgPool avgpool{*this, "avgpool"};
  Linear linear;

 private:
  CifarResNet(Module* parent, std::string_view name, int depth, const CifarResNetOptions& options,
              Generator& generator);

  int depth_;
};

}  // namespace weft
