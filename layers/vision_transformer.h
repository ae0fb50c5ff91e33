#pragma once

#include "weft/layers/cached_constant.h"
#include "weft/layers/conv2d.h"
#include "weft/layers/transformer.h"

namespace weft {

struct VisionTransformerOptions {
  int64_t patch = 16, width = 192, depth = 12, heads = 3;  ///< ViT-Ti/16
  double dropout = 0;
  bool class_token = false;  ///< classify a learned token before the patches instead of the patches' mean
  Activation activation = Activation::gelu;
  int64_t in_channels = 3;
  int64_t classes = 10;
};

/// A vision transformer (Dosovitskiy et al., 2020, arXiv 2010.11929): images [N, H, W, in_channels], H and W
/// multiples of the patch, -> logits [N, classes]. Patches become tokens by a convolution, an encoder that
/// normalises first with feed-forward layers of four times the width works on them, and a Linear classifies
/// their mean (or the class token). As in Beyer et al., 2022 (arXiv 2205.01580), which does without most of
/// the original's recipe: fixed sinusoidal positions in two dimensions, so that images of any size fit, the
/// mean of the patches, and no dropout. Starts: patches uniform in +-1 / sqrt(fan_in) as Conv2d's, matrices
/// xavier_uniform_, biases and head 0, class token normal with standard deviation 0.02.
class VisionTransformer : public Module {
 public:
  explicit VisionTransformer(const VisionTransformerOptions& options = {},
                             Generator& generator = default_generator())
      : VisionTransformer(nullptr, {}, options, generator) {}
  VisionTransformer(Module& parent, std::string_view name, const VisionTransformerOptions& options = {},
                    Generator& generator = default_generator())
      : VisionTransformer(&parent, name, options, generator) {}

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Conv2d patches;
  Tensor class_token;  ///< [1, 1, width]; undefined without .class_token
  TransformerEncoder encoder;
  Linear head;

 private:
  VisionTransformer(Module* parent, std::string_view name, const VisionTransformerOptions& options,
                    Generator& generator);

  int64_t patch_;
  CachedConstant positions_;
};

}  // namespace weft
