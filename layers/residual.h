#pragma once

#include <memory>
#include <optional>

#include "weft/layers/activation.h"
#include "weft/layers/batch_norm.h"
#include "weft/layers/conv2d.h"
#include "weft/layers/pool.h"
#include "weft/layers/self_attention.h"
#include "weft/layers/squeeze_excitation.h"

namespace weft {

/// bn(conv(x), residual). In training conv gathers the statistics that bn needs while it writes; in
/// evaluation without a tape both are one op where nobody asks for the result between.
Tensor conv_bn(Conv2d& conv, BatchNorm2d& bn, const Tensor& x, const Tensor& residual = {});

struct ConvBnOptions {
  int64_t kernel = 3, stride = 1;
  Activation activation = Activation::identity;
  std::optional<double> activation_param = {};
};

/// Convolution (no bias, padding kernel / 2), batch norm, activation:
/// x [N, H, W, in] -> [N, H / stride, W / stride, out], rounded up for odd kernels. Parameters conv.weight,
/// bn.weight, bn.bias.
class ConvBn : public Module {
 public:
  ConvBn(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
         const ConvBnOptions& options = {}, Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override { return conv_bn(conv, bn, x); }
  std::string description() const override { return "ConvBn"; }

  Conv2d conv;
  BatchNorm2d bn;
};

/// Ways to halve an image inside a block.
enum class BlockPool : uint8_t {
  avg,       ///< mean over 2x2
  max,       ///< maximum over 2x2
  max_blur,  ///< MaxBlurPool2d with kPyramidPool, which rounds an odd size down; the others round up
};

struct ResBlockOptions {
  int64_t expansion = 1;  ///< 1: basic block; more: bottleneck
  int64_t stride = 1;
  Activation activation = Activation::mish;
  std::optional<double> activation_param = {};
  bool self_attention = false;  ///< SimpleSelfAttention on the main branch
  bool symmetric = false;       ///< its option
  BlockPool pool = BlockPool::avg;
  /// Pool before both branches, so that no convolution has a stride ("ResnetTrick", ayasyrev,
  /// github.com/ayasyrev/model_constructor, NewResBlock).
  bool pool_first = false;
  int64_t groups = 1;  ///< of the 3x3 convolution of a bottleneck, of the first one of a basic block
  /// Its output channels, and of a bottleneck its input channels too; 0: hidden (ResNeXt, Xie et al., 2016,
  /// arXiv 1611.05431).
  int64_t width = 0;
  /// More than 0, bottlenecks only: the 3x3 convolution is depthwise, with so many filters for each of the
  /// hidden channels, and neither batch norm nor activation follows it (liuyao12,
  /// github.com/liuyao12/imagenette_experiments, ResNet_separable.ipynb).
  int64_t depthwise = 0;
  bool depthwise_norm = false;  ///< both follow it all the same
  /// More than 0: SqueezeExcitation before the attention, with ceil(C / reduction / 8) 8 hidden channels of
  /// the C outputs (C / reduction rounded down), as in fastai.
  int64_t reduction = 0;
};

/// Residual block of XResNet: y = activation(attention(squeeze(main(x))) + shortcut(x)),
/// x [N, H, W, in] -> [N, H / stride, W / stride, hidden * expansion] (rounded as the pool does).
///   main, expansion 1: 3x3 with the stride, 3x3
///   main, otherwise:   1x1, 3x3 with the stride, 1x1
/// each convolution without bias and followed by batch norm (conv1, bn1, conv2, ...), the activation between
/// them; the last batch norm's weight starts at 0, so that the block starts as its shortcut.
///   shortcut: the pool if the stride is 2, then 1x1 and batch norm if the channels differ.
/// (He et al., 2018, "Bag of tricks", arXiv 1812.01187, variant D.)
class ResBlock : public Module {
 public:
  ResBlock(Module& parent, std::string_view name, int64_t in_channels, int64_t hidden_channels,
           const ResBlockOptions& options = {}, Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  /// What one block can do for the next on a GPU: the output, and AvgPool2d of 2x2 of it where that comes
  /// along.
  struct Output {
    Tensor y, halves;
  };
  /// The same as forward(). x.halves may be undefined; with wants_halves those of the output are given where
  /// an op makes both.
  Output forward(const Output& x, bool wants_halves);
  /// Whether the block can be given x.halves in the place of its own pooling, where nobody looks at that.
  bool takes_halves() const;

  Conv2d conv1;
  BatchNorm2d bn1;
  Conv2d conv2;
  std::optional<BatchNorm2d> bn2;  ///< with .depthwise only if .depthwise_norm
  std::optional<Conv2d> conv3;     ///< bottleneck only
  std::optional<BatchNorm2d> bn3;
  std::optional<SqueezeExcitation> squeeze;
  std::optional<SimpleSelfAttention> attention;
  std::unique_ptr<Module> pool;  ///< with a stride only
  std::optional<ConvBn> shortcut;
  std::optional<ActivationLayer> act;  ///< where the last batch norm doesn't apply it

 private:
  ResBlockOptions options_;
};

}  // namespace weft
