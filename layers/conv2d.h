#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/channel_stats.h"

namespace weft {

struct Conv2dLayerOptions {
  int64_t kernel = 3;  ///< square: KH = KW
  int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
  bool bias = true;
};

/// 2-d convolution with a weight [out, KH, KW, in / groups] and a bias [out] of its own:
/// x [N, H, W, in] -> [N, OH, OW, out], see conv2d() for the sizes.
///
/// Both start as in PyTorch: uniform in +-1 / sqrt(fan_in), fan_in = KH KW in / groups. (For the weight this
/// is kaiming_uniform_ with a = sqrt(5).)
class Conv2d : public Module {
 public:
  using Options = Conv2dLayerOptions;
  Conv2d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
         const Conv2dLayerOptions& options = {}, Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override { return forward(x, nullptr); }
  /// With the channel statistics of the result (see conv2d()).
  Tensor forward(const Tensor& x, ChannelStats* stats);
  using Module::operator();
  Tensor operator()(const Tensor& x, ChannelStats* stats);
  std::string description() const override;
  const Conv2dLayerOptions& options() const { return options_; }

  Tensor weight;
  Tensor bias;  ///< undefined with .bias = false

 private:
  Conv2dLayerOptions options_;
};

}  // namespace weft
