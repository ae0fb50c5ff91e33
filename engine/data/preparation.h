// What becomes of a picture, apart from where that is computed: shared by the loaders; not part of the public
// API.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "weft/engine/data/loader.h"
#include "weft/kernels/retouch.h"

namespace weft::data {

/// One direction of a resize: outputs from, from + 1, .. of the `total` that the input range [start, start +
/// length) is resized to. Inputs outside that range have no weight.
struct ResizeRange {
  double start = 0, length = 0;
  int total = 0, from = 0;
};
struct ResizePlan {
  ResizeRange rows, columns;
  bool flip = false;
};
/// What resize_crop does. Throws Error for a box outside the picture.
ResizePlan crop_plan(ImageSize size, const Box& box, int height, int width, bool flip);
/// What resize_center_crop does.
ResizePlan center_crop_plan(ImageSize image, int size, int resize);
/// Writes height * width * 3 floats.
void resize_by_plan(const Image& image, const ResizePlan& plan, int height, int width,
                    const Normalize& normalize, float* out);

/// A picture as it was decoded, and its size in the file.
struct Picture {
  Image image;
  ImageSize size;
};
/// Decodes at the reduction that `options` allow.
Picture decode_picture(const LoaderOptions& options, std::span<const uint8_t> encoded);
/// Both sizes of what decode_picture would give, from the header alone. Throws Error as that does for a
/// header that can't be read.
struct PictureSizes {
  ImageSize full, decoded;
};
PictureSizes picture_sizes(const LoaderOptions& options, std::span<const uint8_t> encoded);

/// What is made of picture `index` in an epoch: the random crop, or the middle.
ResizePlan plan_picture(const LoaderOptions& options, ImageSize full, ImageSize decoded, int64_t epoch,
                        int64_t index);

/// Whether training pads, changes colours or erases boxes.
bool retouches(const LoaderOptions& options);
/// What is done to picture `index` in an epoch besides.
kernels::Retouch plan_retouch(const LoaderOptions& options, int64_t epoch, int64_t index);
/// What black and erased pixels become, normalised.
std::array<float, 3> black(const Normalize& normalize);
std::array<float, 3> erased_color(const LoaderOptions& options);
/// Crops as planned, pads and crops, changes the colours, normalises and erases; writes size * size * 3
/// floats.
void prepare_picture(const LoaderOptions& options, const Image& image, const ResizePlan& plan, int64_t epoch,
                     int64_t index, float* out);

/// Throws Error for options that make no sense, or make no batch of n pictures; puts in defaults. Returns the
/// batches of an epoch.
int64_t check_options(LoaderOptions& options, int64_t n);
/// The pictures of an epoch in their order.
std::vector<int64_t> epoch_order(const LoaderOptions& options, int64_t n, int64_t epoch);

/// Warns of pictures that were left out, by index.
void warn_of_skipped(const LoaderOptions& options, const ImageDataset& dataset,
                     const std::map<int64_t, std::string>& skipped);

}  // namespace weft::data
