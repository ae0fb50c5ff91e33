#pragma once

#include <optional>

#include "weft/layers/batch_norm.h"
#include "weft/layers/conv2d.h"

namespace weft {

struct DepthwiseSeparableConvOptions {
  int64_t kernel = 3, stride = 1;
  int64_t multiplier = 1;     ///< filters for each input channel
  bool norm_between = false;  ///< batch norm and activation between the two convolutions too, as in MobileNet
  Activation activation = Activation::identity;  ///< behind the last batch norm (and the one between)
  std::optional<double> activation_param = {};
};

/// A convolution as a depthwise one (each input channel has `multiplier` filters of its own, with the stride
/// and padding kernel / 2), a 1x1 convolution, both without bias, batch norm and activation:
/// x [N, H, W, in] -> [N, H / stride, W / stride, out], rounded up for odd kernels. Parameters
/// depthwise.weight [in multiplier, K, K, 1], pointwise.weight [out, 1, 1, in multiplier], norm.weight,
/// norm.bias, and with .norm_between between.weight and between.bias. (Howard et al., 2017, "MobileNets",
/// arXiv 1704.04861; without the norm between: Chollet, 2016, "Xception", arXiv 1610.02357.)
class DepthwiseSeparableConv : public Module {
 public:
  DepthwiseSeparableConv(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
                         const DepthwiseSeparableConvOptions& options = {},
                         Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "DepthwiseSeparableConv"; }

  Conv2d depthwise;
  std::optional<BatchNorm2d> between;
  Conv2d pointwise;
  BatchNorm2d norm;
};

}  // namespace weft
