#pragma once

#include "weft/engine/ops/conv.h"
#include "weft/layers/convolution.h"

namespace weft {

/// 2-d convolution with a weight [out, KH, KW, in / groups] and a bias [out] of its own:
/// x [N, H, W, in] -> [N, OH, OW, out], see conv2d() for the sizes.
class Conv2d : public ConvolutionLayer<Conv2dLayerOptions> {
 public:
  Conv2d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
         const Options& options = {}, Generator& generator = default_generator())
      : ConvolutionLayer("Conv2d", 2, parent, name, in_channels, out_channels, options, generator) {}

  Tensor forward(const Tensor& x) override { return forward(x, nullptr); }
  /// With the channel statistics of the result (see conv2d()).
  Tensor forward(const Tensor& x, ChannelStats* stats);
  using Module::operator();
  Tensor operator()(const Tensor& x, ChannelStats* stats);
  /// conv2d_batch_norm(), without hooks.
  Tensor forward(const Tensor& x, const RunningNorm& norm);

 private:
  PackedWeight* packed();
  PackedWeight packed_;
};

}  // namespace weft
