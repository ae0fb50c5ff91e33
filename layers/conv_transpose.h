// Transposed convolutions and the convolution of sequences as layers.
#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/conv_transpose.h"
#include "weft/layers/conv2d.h"

namespace weft {

struct ConvTransposeLayerOptions {
  int64_t kernel = 3;  ///< square: KH = KW
  int64_t stride = 1, padding = 0, output_padding = 0, dilation = 1, groups = 1;
  bool bias = true;
};

/// conv_transpose2d() with a weight [in, KH, KW, out / groups] and a bias [out] of its own: x [N, H, W, in]
/// -> [N, OH, OW, out]. Both start as in PyTorch: uniform in +-1 / sqrt(KH KW out / groups).
class ConvTranspose2d : public Module {
 public:
  using Options = ConvTransposeLayerOptions;
  ConvTranspose2d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
                  const Options& options = {}, Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor weight;
  Tensor bias;  ///< undefined with .bias = false

 private:
  Options options_;
};

/// The same for sequences: weight [in, K, out / groups], x [N, L, in] -> [N, OL, out].
class ConvTranspose1d : public Module {
 public:
  using Options = ConvTransposeLayerOptions;
  ConvTranspose1d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
                  const Options& options = {}, Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor weight;
  Tensor bias;  ///< undefined with .bias = false

 private:
  Options options_;
};

/// conv1d() with a weight [out, K, in / groups] and a bias [out] of its own: x [N, L, in] -> [N, OL, out].
/// Both start as in PyTorch: uniform in +-1 / sqrt(K in / groups).
class Conv1d : public Module {
 public:
  using Options = Conv2dLayerOptions;
  Conv1d(Module& parent, std::string_view name, int64_t in_channels, int64_t out_channels,
         const Options& options = {}, Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor weight;
  Tensor bias;  ///< undefined with .bias = false

 private:
  Options options_;
};

}  // namespace weft
