// Random changes of single pictures in training, apart from crops that are resized: crops after padding,
// colours, and boxes without a picture.
#pragma once

#include <array>
#include <cstdint>

#include "weft/engine/data/image.h"
#include "weft/kernels/retouch.h"

namespace weft::data {

using kernels::PixelBox;

/// Constant: black, which is 0 before normalisation. Reflect: the picture mirrored, without its outermost
/// pixels.
enum class PaddingMode { constant, reflect };

/// A crop of `size` squared at a random place of the picture with `padding` pixels added on each side, as
/// torchvision's RandomCrop(size, padding=padding, padding_mode=mode). A picture that does not have that size
/// is brought to it first, as for validation: resized by its short side, the middle cut out.
struct PadAndCrop {
  int padding = 0;  ///< 0: no such crop, but a RandomResizedCrop
  PaddingMode mode = PaddingMode::constant;
};

/// How far colours are changed, as torchvision's ColorJitter: each picture gets factors for brightness,
/// contrast and saturation uniform in [max(0, 1 - x), 1 + x], and a shift of the hue uniform in [-hue, hue]
/// turns, in an order of its own. 0 leaves that property alone.
struct ColorJitter {
  double brightness = 0, contrast = 0, saturation = 0;
  double hue = 0;  ///< at most 0.5
  bool any() const { return brightness > 0 || contrast > 0 || saturation > 0 || hue > 0; }
};

/// Mean: 0 after normalisation, which is the mean colour that it subtracts, and what torchvision's default
/// does behind a Normalize.
enum class ErasingFill { mean, black };

/// Random erasing (Zhong et al., "Random Erasing Data Augmentation", 2017) as torchvision's RandomErasing,
/// with its defaults but for p: with probability p a box of a random share of the picture's area and of a
/// random ratio height / width (its logarithm uniform) is filled; ten tries to find one that is smaller than
/// the picture in both directions.
struct RandomErasing {
  double p = 0;
  double min_area = 0.02, max_area = 0.33;
  double min_ratio = 0.3, max_ratio = 3.3;
  ErasingFill fill = ErasingFill::mean;
};

/// Throw Error for values that make no sense, the first for pictures of `size` squared.
void check_options(const PadAndCrop& pad, int size);
void check_options(const ColorJitter& jitter);
void check_options(const RandomErasing& erasing);

/// What becomes of picture `index` in an epoch: pure functions of their arguments (Philox).
kernels::PaddedCrop draw_padded_crop(const PadAndCrop& pad, uint64_t seed, int64_t epoch, int64_t index);
kernels::ColorJitterFactors draw_jitter(const ColorJitter& jitter, uint64_t seed, int64_t epoch,
                                        int64_t index);
PixelBox draw_erasing(const RandomErasing& erasing, ImageSize size, uint64_t seed, int64_t epoch,
                      int64_t index);

/// out = the crop of a picture of size squared RGB pixels; `fill` is what was added in constant mode.
void apply_padded_crop(const kernels::PaddedCrop& crop, int size, const std::array<float, 3>& fill,
                       const float* rgb, float* out);
/// Changes `pixels` RGB pixels of values from 0 to 1 in place, as kernels/retouch.h says.
void apply_jitter(const kernels::ColorJitterFactors& factors, int64_t pixels, float* rgb);

}  // namespace weft::data
