#pragma once

#include <optional>

#include "weft/layers/batch_norm.h"
#include "weft/layers/conv2d.h"
#include "weft/layers/pool.h"
#include "weft/layers/self_attention.h"

namespace weft {

/// bn(conv(x), residual). In training conv gathers the statistics that bn needs while it writes.
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

struct ResBlockOptions {
  int64_t expansion = 1;  ///< 1: basic block; more: bottleneck
  int64_t stride = 1;
  Activation activation = Activation::mish;
  std::optional<double> activation_param = {};
  bool self_attention = false;  ///< SimpleSelfAttention on the main branch
  bool symmetric = false;       ///< its option
};

/// Residual block of XResNet: y = activation(attention(main(x)) + shortcut(x)),
/// x [N, H, W, in] -> [N, H / stride, W / stride, hidden * expansion] (rounded up).
///   main, expansion 1: 3x3 with the stride, 3x3
///   main, otherwise:   1x1, 3x3 with the stride, 1x1
/// each convolution without bias and followed by batch norm (conv1, bn1, conv2, ...), the activation between
/// them; the last batch norm's weight starts at 0, so that the block starts as its shortcut.
///   shortcut: mean over 2x2 (ceil mode) if the stride is 2, then 1x1 and batch norm if the channels differ.
/// (He et al., 2018, "Bag of tricks", arXiv 1812.01187, variant D.)
class ResBlock : public Module {
 public:
  ResBlock(Module& parent, std::string_view name, int64_t in_channels, int64_t hidden_channels,
           const ResBlockOptions& options = {}, Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Conv2d conv1;
  BatchNorm2d bn1;
  Conv2d conv2;
  BatchNorm2d bn2;
  std::optional<Conv2d> conv3;  ///< bottleneck only
  std::optional<BatchNorm2d> bn3;
  std::optional<SimpleSelfAttention> attention;
  std::optional<ActivationLayer> act;  ///< the last one, where attention comes before it
  std::optional<AvgPool2d> pool;
  std::optional<ConvBn> shortcut;

 private:
  ResBlockOptions options_;
};

}  // namespace weft
