// What happens to a picture between its decoding and the network: crop, resize, flip, normalise.
#pragma once

#include <array>
#include <cstdint>

#include "weft/engine/data/image.h"

namespace weft::data {

/// A rectangle of a picture, in pixels; fractions are allowed.
struct Box {
  double left = 0, top = 0, width = 0, height = 0;
  bool operator==(const Box&) const = default;
};

/// A random crop for training, and whether to mirror it.
struct Crop {
  Box box;
  bool flip = false;
};

/// The crop of torchvision's RandomResizedCrop.get_params: area uniform in [min_scale, 1] of the picture, log
/// of the ratio width / height uniform in [log 3/4, log 4/3], place uniform; after ten tries that do not fit,
/// the middle of the picture at the nearest ratio allowed. Flipped with probability 1/2. A pure function of
/// its arguments (Philox).
Crop random_resized_crop(ImageSize size, double min_scale, uint64_t seed, int64_t epoch, int64_t index);

/// (value / 255 - mean) / std per channel. The defaults are the usual statistics of ImageNet.
struct Normalize {
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f};
  std::array<float, 3> std{0.229f, 0.224f, 0.225f};
};

/// Cuts out `box`, resizes it to height x width, mirrors it if asked to, normalises it and writes height *
/// width * 3 floats. The filter is Pillow's BILINEAR (torchvision's with antialias): a triangle as wide as
/// two input pixels when enlarging and two output pixels when shrinking, cut off at the edges of the box.
/// Kept in float: within one grey level of Pillow, which rounds after each of the two passes. Throws Error
/// for a box outside the picture.
void resize_crop(const Image& image, const Box& box, int height, int width, bool flip,
                 const Normalize& normalize, float* out);

/// For validation: the short side resized to `resize` (the long one rounded down, as torchvision's Resize),
/// then the middle `size` x `size` pixels. Smaller pictures are enlarged. `resize` must not be below `size`.
void resize_center_crop(const Image& image, int size, int resize, const Normalize& normalize, float* out);

/// `box` resized to height x width as 8-bit pixels.
Image resize(const Image& image, const Box& box, int height, int width);
/// The whole picture resized to height x width.
Image resize(const Image& image, int height, int width);

}  // namespace weft::data
