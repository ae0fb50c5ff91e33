// Transposed convolutions and the convolution of sequences as layers.
#pragma once

#include "weft/layers/convolution.h"

namespace weft {

/// conv_transpose2d() with a weight [in, KH, KW, out / groups] and a bias [out] of its own: x [N, H, W, in]
/// -> [N, OH, OW, out].
class ConvTranspose2d : public ConvolutionLayer<ConvTransposeLayerOptions> {
 public:
  ConvTranspose2d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
                  const Options& options = {}, Generator& generator = default_generator())
      : ConvolutionLayer("ConvTranspose2d", 2, parent, name, in_channels, out_channels, options, generator) {}
  Tensor forward(const Tensor& x) override;
};

/// The same for sequences: weight [in, K, out / groups], x [N, L, in] -> [N, OL, out].
class ConvTranspose1d : public ConvolutionLayer<ConvTransposeLayerOptions> {
 public:
  ConvTranspose1d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
                  const Options& options = {}, Generator& generator = default_generator())
      : ConvolutionLayer("ConvTranspose1d", 1, parent, name, in_channels, out_channels, options, generator) {}
  Tensor forward(const Tensor& x) override;
};

/// conv1d() with a weight [out, K, in / groups] and a bias [out] of its own: x [N, L, in] -> [N, OL, out].
class Conv1d : public ConvolutionLayer<Conv2dLayerOptions> {
 public:
  Conv1d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
         const Options& options = {}, Generator& generator = default_generator())
      : ConvolutionLayer("Conv1d", 1, parent, name, in_channels, out_channels, options, generator) {}
  Tensor forward(const Tensor& x) override;
};

}  // namespace weft
