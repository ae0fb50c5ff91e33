#pragma once

#include <optional>

#include "weft/kernels/activation.h"
#include "weft/layers/linear.h"
#include "weft/layers/pool.h"
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

/// XResNet of depth 18 or 34 (basic blocks), 50, 101 or 152 (bottlenecks): images [N, H, W, in_channels] ->
/// logits [N, classes]. With Mish it is MXResNet, as github.com/lessw2020/Ranger-Mish-ImageWoof-5
/// (mxresnet.py) builds it.
///
///   stem    three 3x3 ConvBn: in -> 32 (stride 2) -> 64 -> 64
///   pool    max over 3x3, stride 2, padding 1
///   stages  four of ResBlocks, 64, 128, 256, 512 hidden channels; all but the first start with stride 2
///   avgpool, head   mean over the image, Linear
///
/// An activation that draws (rrelu) goes on drawing from `generator` in training, which must outlive the
/// model then; one that learns adds parameters (stem.0.bn.act.weight).
///
/// Weights of convolutions and of the head start with kaiming_normal_ (fan_in, gain sqrt(2)), biases at 0.
/// Names: stem.0.conv.weight, stages.0.1.conv2.weight, stages.1.0.shortcut.bn.bias,
/// stages.0.1.attention.gamma, head.weight.
class XResNet : public Module {
 public:
  explicit XResNet(int depth, const XResNetOptions& options = {}, Generator& generator = default_generator());
  XResNet(Module& parent, std::string_view name, int depth, const XResNetOptions& options = {},
          Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Sequential stem{*this, "stem"};
  MaxPool2d pool{*this, "pool", {.kernel = 3, .stride = 2, .padding = 1}};
  Sequential stages{*this, "stages"};
  GlobalAvgPool avgpool{*this, "avgpool"};
  std::optional<Linear> head;  ///< always there

 private:
  void build(const XResNetOptions& options, Generator& generator);

  int depth_;
  Activation activation_ = Activation::mish;
};

}  // namespace weft
