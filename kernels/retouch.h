// What is done to single pictures in training, for the CPU and the GPU alike: boxes, and changes of
// brightness, contrast, saturation and hue. The formulas are those of torchvision's adjust_brightness,
// adjust_contrast, adjust_saturation and adjust_hue on float pictures: red, green and blue are 0 to 1.
#pragma once

#include <cmath>
#include <cstdint>

#include "weft/kernels/host_device.h"

namespace weft::kernels {

/// Some rows and columns of a picture; none where height is 0.
struct PixelBox {
  int32_t top = 0, left = 0, height = 0, width = 0;
  WEFT_HD bool holds(int y, int x) const {
    return y >= top && y < top + height && x >= left && x < left + width;
  }
};

enum class ColorStep : uint8_t { brightness, contrast, saturation, hue };

/// What is done to one picture; as they stand here the factors change nothing.
struct ColorJitterFactors {
  float brightness = 1, contrast = 1, saturation = 1;
  float hue = 0;  ///< in turns of the colour circle, -0.5 to 0.5
  ColorStep order[4] = {ColorStep::brightness, ColorStep::contrast, ColorStep::saturation, ColorStep::hue};
};

/// A picture with pixels added on all sides, and a crop of its own size out of that, perhaps mirrored.
struct PaddedCrop {
  int32_t down = 0, right = 0;  ///< of the crop against the picture
  bool flip = false;
  bool reflect = false;  ///< what was added is the picture mirrored without its outermost pixels; else `fill`
  /// The pixel of `size` in a row or column that crop pixel i comes from; -1 where it was added as `fill`.
  WEFT_HD int source(int i, int shift, int size) const {
    const int at = i + shift;
    if (at >= 0 && at < size) return at;
    return !reflect ? -1 : at < 0 ? -at : 2 * (size - 1) - at;
  }
  WEFT_HD int row(int y, int size) const { return source(y, down, size); }
  WEFT_HD int column(int x, int size) const { return source(flip ? size - 1 - x : x, right, size); }
};

/// All that is done to a picture between its crop and mixing.
struct Retouch {
  PaddedCrop crop;
  ColorJitterFactors jitter;
  PixelBox erased;
};

/// Brightness as ITU-R 601 weighs it.
WEFT_HD inline float luma(const float (&c)[3]) { return 0.2989f * c[0] + 0.587f * c[1] + 0.114f * c[2]; }

/// c = factor c + (1 - factor) other, held between 0 and 1.
WEFT_HD inline void blend_color(float (&c)[3], float other, float factor) {
  for (float& v : c) {
    const float mixed = factor * v + (1 - factor) * other;
    v = mixed < 0 ? 0 : mixed > 1 ? 1 : mixed;
  }
}

/// Through hue, saturation and value and back.
WEFT_HD inline void shift_hue(float (&c)[3], float shift) {
  const float r = c[0], g = c[1], b = c[2];
  const float high = r > g ? (r > b ? r : b) : (g > b ? g : b),
              low = r < g ? (r < b ? r : b) : (g < b ? g : b);
  if (high == low) return;  // grey has no hue
  const float range = high - low, s = range / high;
  const float from_r = (high - r) / range, from_g = (high - g) / range, from_b = (high - b) / range;
  float h = high == r ? from_b - from_g : high == g ? 2 + from_r - from_b : 4 + from_g - from_r;
  h = h / 6 + 1 + shift;
  h = (h - std::floor(h)) * 6;
  const float sector = std::floor(h), f = h - sector;
  const float p = high * (1 - s), q = high * (1 - s * f), t = high * (1 - s * (1 - f));
  switch (int(sector)) {
    case 1:
      c[0] = q, c[1] = high, c[2] = p;
      break;
    case 2:
      c[0] = p, c[1] = high, c[2] = t;
      break;
    case 3:
      c[0] = p, c[1] = q, c[2] = high;
      break;
    case 4:
      c[0] = t, c[1] = p, c[2] = high;
      break;
    case 5:
      c[0] = high, c[1] = p, c[2] = q;
      break;
    default:
      c[0] = high, c[1] = t, c[2] = p;
  }
}

/// Steps first <= i < last of the order. mean: of the luma of the whole picture as it is before the change of
/// contrast.
WEFT_HD inline void jitter_pixel(const ColorJitterFactors& f, int first, int last, float mean,
                                 float (&c)[3]) {
  for (int i = first; i < last; ++i) switch (f.order[i]) {
      case ColorStep::brightness:
        if (f.brightness != 1) blend_color(c, 0, f.brightness);
        break;
      case ColorStep::contrast:
        if (f.contrast != 1) blend_color(c, mean, f.contrast);
        break;
      case ColorStep::saturation:
        if (f.saturation != 1) blend_color(c, luma(c), f.saturation);
        break;
      case ColorStep::hue:
        if (f.hue != 0) shift_hue(c, f.hue);
        break;
    }
}

/// The place of contrast in the order; 0 where contrast stays, so that no mean is needed.
WEFT_HD inline int steps_before_contrast(const ColorJitterFactors& f) {
  if (f.contrast == 1) return 0;
  int i = 0;
  while (f.order[i] != ColorStep::contrast) ++i;
  return i;
}

}  // namespace weft::kernels
