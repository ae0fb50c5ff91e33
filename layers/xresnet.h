#pragma once

#include <array>
#include <optional>

#include "weft/kernels/activation.h"
#include "weft/layers/linear.h"
#include "weft/layers/pool.h"
#include "weft/layers/residual.h"
#include "weft/layers/sequential.h"

namespace weft {

struct XResNetOptions {
  /// Default: mish; make_model() takes relu for the names without an m.
  std::optional<Activation> activation = {};
  std::optional<double> activation_param = {};  ///< slope or alpha
  bool self_attention = false;                  ///< SimpleSelfAttention in the last block of the first stage
  bool symmetric = false;                       ///< its option
  /// Training keeps only the inputs of the stem's layers and of the residual blocks, and computes the rest
  /// again in backward: less memory, more time, the same bits. See Module::recompute.
  bool recompute = false;
  int64_t in_channels = 3;
  int64_t classes = 10;
};

/// What a network of the family is made of.
struct XResNetPlan {
  std::string name;
  std::array<int, 4> blocks;   ///< in each stage
  ResBlockOptions block = {};  ///< of all blocks; stride, activation and attention are filled in
  int64_t base_width = 0;      ///< ResNeXt: width = hidden base_width / 64 (rounded down) groups
  std::array<int64_t, 3> stem = {32, 64, 64};  ///< channels
  int64_t separable_stem = 0;  ///< more than 0: DepthwiseSeparableConv with so many filters in the stem
  bool max_blur_stem = false;  ///< MaxBlurPool2d with kPyramidPool behind the stem
};

/// XResNet of depth 18 or 34 (basic blocks), 50, 101 or 152 (bottlenecks). Throws for another.
XResNetPlan xresnet_plan(int depth);
/// "ResnetTrick": xresnet_plan(depth) with MaxBlurPool2d before both branches of a block and behind the stem
/// (github.com/ayasyrev/model_constructor at df26b9b, ayasyrev/imagenette_experiments). Images of 64 pixels
/// or more, here and in the depthwise networks: fewer are too few to be mirrored in the last MaxBlurPool2d.
XResNetPlan trick_plan(int depth);
/// The depthwise entries of the ImageWoof leaderboard: bottlenecks with a depthwise 3x3 of so many filters
/// for each channel, 3, 6, 8 and 3 of them, pooled first by MaxBlurPool2d, and a separable stem
/// (github.com/liuyao12/imagenette_experiments at 96ad29b, ResNet_separable.ipynb).
XResNetPlan depthwise_plan(int64_t multiplier);
/// Their forerunner, with batch norm and activation behind the depthwise 3x3 too, a plain stem and
/// MaxBlurPool2d behind it (the same repository at ae64a4a, Woof_ResNet_separable.ipynb).
XResNetPlan depthwise_norm_plan(int64_t multiplier);
/// XResNeXt: xresnet_plan(depth) with 32 groups of base width 4, stem 32-32-64, maximum over 2x2 in the
/// shortcut, and SqueezeExcitation with that reduction (0: none). With 16, xse_resnext50 is the network of
/// the leaderboard of January 2020 (github.com/fastai/fastai2 at 3faec08, vision/models/xresnet.py).
XResNetPlan resnext_plan(int depth, int64_t reduction);

/// XResNet: images [N, H, W, in_channels] -> logits [N, classes]. With Mish it is MXResNet, as
/// github.com/lessw2020/Ranger-Mish-ImageWoof-5 (mxresnet.py) builds it.
///
///   stem    three 3x3 ConvBn: in -> 32 (stride 2) -> 64 -> 64
///   pool    max over 3x3, stride 2, padding 1
///   stages  four of ResBlocks, 64, 128, 256, 512 hidden channels; all but the first start with stride 2
///   avgpool, head   mean over the image, Linear
///
/// An activation that draws (rrelu) goes on drawing from `generator` in training, which must outlive the
/// model then; one that learns adds parameters (stem.0.bn.act.weight).
///
/// Weights of convolutions and of linear layers start with kaiming_normal_ (fan_in, gain sqrt(2)), biases
/// at 0. Names: stem.0.conv.weight, stages.0.1.conv2.weight, stages.1.0.shortcut.bn.bias,
/// stages.0.1.attention.gamma, head.weight.
class XResNet : public Module {
 public:
  explicit XResNet(int depth, const XResNetOptions& options = {}, Generator& generator = default_generator());
  XResNet(Module& parent, std::string_view name, int depth, const XResNetOptions& options = {},
          Generator& generator = default_generator());
  explicit XResNet(const XResNetPlan& plan, const XResNetOptions& options = {},
                   Generator& generator = default_generator());
  XResNet(Module& parent, std::string_view name, const XResNetPlan& plan, const XResNetOptions& options = {},
          Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Sequential stem{*this, "stem"};
  std::unique_ptr<Module> pool;
  Sequential stages{*this, "stages"};
  GlobalAvgPool avgpool{*this, "avgpool"};
  std::optional<Linear> head;  ///< always there

 private:
  void build(const XResNetPlan& plan, const XResNetOptions& options, Generator& generator);

  std::string plan_name_;
  Activation activation_ = Activation::mish;
};

}  // namespace weft
