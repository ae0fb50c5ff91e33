// What all convolution layers are made of.
#pragma once

#include "weft/engine/module.h"

namespace weft {

struct Conv2dLayerOptions {
  int64_t kernel = 3;  ///< square: KH = KW
  int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
  bool bias = true;
};

struct ConvTransposeLayerOptions {
  int64_t kernel = 3;  ///< square: KH = KW
  int64_t stride = 1, padding = 0, output_padding = 0, dilation = 1, groups = 1;
  bool bias = true;
};

/// A layer with the weight and the bias of a convolution over one or two dimensions: [out, K, K, in /
/// groups], or transposed, by its options, [in, K, K, out / groups] (one K for one dimension), and [out].
/// Both start as in PyTorch: uniform in +-1 / sqrt(fan_in), the product of the weight's sizes but the first.
/// (For the weight this is kaiming_uniform_ with a = sqrt(5).) Throws Error on options out of range.
template <class OptionsT>
class ConvolutionLayer : public Module {
 public:
  using Options = OptionsT;

  std::string description() const override;
  const Options& options() const { return options_; }

  Tensor weight;
  Tensor bias;  ///< undefined with .bias = false

 protected:
  /// `layer` is its type, for messages and the description: "Conv2d".
  ConvolutionLayer(const char* layer, int dimensions, Module& parent, std::string_view name,
                   int64_t in_channels, int64_t out_channels, const Options& options, Generator& generator);

 private:
  static constexpr bool kTransposed = requires(Options o) { o.output_padding; };

  const char* layer_;
  Options options_;
};

}  // namespace weft
