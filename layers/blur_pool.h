#pragma once

#include "weft/engine/module.h"
#include "weft/layers/cached_constant.h"
#include "weft/layers/pool.h"

namespace weft {

struct BlurPool2dOptions {
  int64_t filter = 3;  ///< taps along each axis, 1 to 8: row filter - 1 of Pascal's triangle, its sum made 1
  int64_t stride = 2;
  bool reflect = false;  ///< mirror the image at its edges (without repeating the edge) instead of zeros
};

/// Low-pass filter and subsampling of each channel, so that a shift of the image by a pixel changes little
/// (Zhang, 2019, "Making convolutional networks shift-invariant again", arXiv 1904.11486):
///   y = (x padded by (filter - 1) / 2 on all sides) * (b b^T / sum), taken every `stride` pixels,
/// b the binomial coefficients, [1 2 1] for a filter of 3. x [N, H, W, C] -> [N, OH, OW, C],
/// OH = (H + 2 ((filter - 1) / 2) - filter) / stride + 1. Nothing is learned. (Zhang pads filters of an even
/// size by one more at the right and bottom, which changes the result at images of an odd size only.)
class BlurPool2d : public Module {
 public:
  BlurPool2d(Module& parent, std::string_view name, const BlurPool2dOptions& options = {});
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

 private:
  Tensor zero_padded(const Tensor& x);
  Tensor reflected(const Tensor& x);

  BlurPool2dOptions options_;
  CachedConstant filter_;          // [C, filter, filter, 1]
  CachedConstant rows_, columns_;  // [OH, H] and [OW, W], with .reflect
};

struct MaxBlurPool2dOptions {
  int64_t kernel = 2;   ///< of the maximum, whose stride is 1
  int64_t padding = 0;  ///< of the maximum
  BlurPool2dOptions blur = {};
};

/// Max pooling without aliasing (Zhang, 2019): the maximum over each window, one for every pixel, then
/// BlurPool2d. x [N, H, W, C] -> [N, H / 2, W / 2, C], rounded down, with the defaults, which are those of
/// kornia's MaxBlurPool2D since version 0.5 (max_pool_size 2, kernel_size 3).
class MaxBlurPool2d : public Module {
 public:
  MaxBlurPool2d(Module& parent, std::string_view name, const MaxBlurPool2dOptions& options = {});
  Tensor forward(const Tensor& x) override { return blur(max(x)); }
  std::string description() const override { return "MaxBlurPool2d"; }

  MaxPool2d max;
  BlurPool2d blur;
};

/// MaxBlurPool2d(3) of kornia before 0.5, with which the ImageWoof entries of 2020 were trained: the maximum
/// over 3x3, and a step of a Gaussian pyramid, a filter of 5 taps and bilinear interpolation to half the
/// size, which together are the binomial filter of 6 taps. The image is mirrored and so must be at least 4x4.
/// (github.com/kornia/kornia before dfc9196a3 of 2021-03-07, contrib/max_blur_pool.py,
/// geometry/transform/pyramid.py.)
inline constexpr MaxBlurPool2dOptions kPyramidPool = {
    .kernel = 3, .padding = 1, .blur = {.filter = 6, .reflect = true}};

}  // namespace weft
