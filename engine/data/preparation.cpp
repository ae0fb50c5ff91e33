#include "weft/engine/data/preparation.h"

#include <algorithm>
#include <cmath>
#include <iostream>

#include "weft/engine/data/codecs.h"
#include "weft/engine/error.h"
#include "weft/kernels/philox.h"

namespace weft::data {

namespace {

constexpr uint64_t kShuffleStream = 0x73687566;  // "shuf": apart from the other streams of the seed

// The largest reduction that leaves the shorter side of whatever is cut out twice the pixels that are wanted,
// so that the resize still does most of the filtering. It depends on the picture's size alone and not on the
// crop, so that what is decoded serves every epoch.
int reduction(const LoaderOptions& options, ImageSize full) {
  if (!options.reduced_decode) return 1;
  const double shorter = std::min(full.height, full.width);
  const double side =
      !options.train ? shorter * options.size / options.resize
      : options.pad.padding > 0
          ? shorter
          : std::min(shorter, std::sqrt(options.min_scale * full.height * full.width * 3 / 4));
  int reduce = 1;
  while (reduce < 8 && side / (2 * reduce) >= 2 * options.size) reduce *= 2;
  return reduce;
}

}  // namespace

Picture decode_picture(const LoaderOptions& options, std::span<const uint8_t> encoded) {
  Picture picture;
  picture.size = image_size(encoded);
  picture.image = decode_image(encoded, {.reduce = reduction(options, picture.size)});
  return picture;
}

PictureSizes picture_sizes(const LoaderOptions& options, std::span<const uint8_t> encoded) {
  const ImageSize full = image_size(encoded);
  return {full, decoded_size(encoded, {.reduce = reduction(options, full)})};
}

ResizePlan plan_picture(const LoaderOptions& options, ImageSize full, ImageSize decoded, int64_t epoch,
                        int64_t index) {
  if (!options.train) return center_crop_plan(decoded, options.size, options.resize);
  if (options.pad.padding > 0) return center_crop_plan(decoded, options.size, options.size);
  Crop crop = random_resized_crop(full, options.min_scale, options.seed, epoch, index);
  if (decoded.width != full.width || decoded.height != full.height) {
    const double x = double(decoded.width) / full.width, y = double(decoded.height) / full.height;
    Box& b = crop.box;
    b = {b.left * x, b.top * y, b.width * x, b.height * y};
    b.width = std::min(b.width, decoded.width - b.left);
    b.height = std::min(b.height, decoded.height - b.top);
  }
  return crop_plan(decoded, crop.box, options.size, options.size, crop.flip && options.flip);
}

bool retouches(const LoaderOptions& options) {
  return options.train && (options.pad.padding > 0 || options.jitter.any() || options.erasing.p > 0);
}

kernels::Retouch plan_retouch(const LoaderOptions& options, int64_t epoch, int64_t index) {
  kernels::Retouch view;
  if (options.pad.padding > 0) {
    view.crop = draw_padded_crop(options.pad, options.seed, epoch, index);
    view.crop.flip = view.crop.flip && options.flip;
  }
  if (options.jitter.any()) view.jitter = draw_jitter(options.jitter, options.seed, epoch, index);
  if (options.erasing.p > 0)
    view.erased = draw_erasing(options.erasing, {options.size, options.size}, options.seed, epoch, index);
  return view;
}

std::array<float, 3> black(const Normalize& normalize) {
  const auto& [mean, std] = normalize;
  return {-mean[0] / std[0], -mean[1] / std[1], -mean[2] / std[2]};
}
std::array<float, 3> erased_color(const LoaderOptions& options) {
  return options.erasing.fill == ErasingFill::mean ? std::array<float, 3>{} : black(options.normalize);
}

namespace {

/// The crop alone.
void crop_picture(const LoaderOptions& options, const Image& image, const ResizePlan& plan,
                  const kernels::PaddedCrop& crop, const Normalize& normalize, float* out) {
  const int size = options.size;
  if (options.pad.padding == 0) return resize_by_plan(image, plan, size, size, normalize, out);
  std::vector<float> whole(size_t(size) * size_t(size) * 3);
  resize_by_plan(image, plan, size, size, normalize, whole.data());
  apply_padded_crop(crop, size, black(normalize), whole.data(), out);
}

}  // namespace

void prepare_picture(const LoaderOptions& options, const Image& image, const ResizePlan& plan, int64_t epoch,
                     int64_t index, float* out) {
  const int size = options.size;
  if (!retouches(options)) return resize_by_plan(image, plan, size, size, options.normalize, out);
  const kernels::Retouch view = plan_retouch(options, epoch, index);
  if (options.jitter.any()) {
    crop_picture(options, image, plan, view.crop, {{0, 0, 0}, {1, 1, 1}}, out);
    apply_jitter(view.jitter, int64_t{size} * size, out);
    const auto& [mean, std] = options.normalize;
    for (int64_t i = 0; i < int64_t{size} * size; ++i)
      for (size_t c = 0; c < 3; ++c) out[3 * i + int64_t(c)] = (out[3 * i + int64_t(c)] - mean[c]) / std[c];
  } else {
    crop_picture(options, image, plan, view.crop, options.normalize, out);
  }
  const std::array<float, 3> fill = erased_color(options);
  for (int y = view.erased.top; y < view.erased.top + view.erased.height; ++y)
    for (int x = view.erased.left; x < view.erased.left + view.erased.width; ++x)
      std::copy_n(fill.data(), 3, out + (int64_t{y} * size + x) * 3);
}

int64_t check_options(LoaderOptions& options, int64_t n) {
  check(options.size >= 1 && options.size <= 8192, "loader: size is ", options.size,
        ", but must be 1 to 8192");
  check(options.batch_size >= 1, "loader: batch_size is ", options.batch_size, ", but must be at least 1");
  check(options.threads >= 1 && options.threads <= 256, "loader: threads is ", options.threads,
        ", but must be 1 to 256");
  check(options.prefetch >= 1, "loader: prefetch is ", options.prefetch, ", but must be at least 1");
  check(options.smallest_batch >= 1, "loader: smallest_batch is ", options.smallest_batch,
        ", but must be at least 1");
  check(options.min_scale > 0 && options.min_scale <= 1, "loader: min_scale is ", options.min_scale,
        ", but must be in (0, 1]");
  if (options.resize == 0) options.resize = options.size;
  check(options.resize >= options.size, "loader: resize is ", options.resize,
        ", but must be at least the size ", options.size);
  check_options(options.pad, options.size);
  check_options(options.jitter);
  check_options(options.erasing);
  for (float s : options.normalize.std) check(s > 0, "loader: normalize.std is ", s, ", but must be above 0");
  const int64_t size = options.batch_size;
  const int64_t batches = options.drop_last ? n / size : (n + size - 1) / size;
  check(n > 0, "loader: there are no pictures");
  check(batches > 0, "loader: ", n, " pictures make no full batch of ", size,
        ": take a smaller batch_size or keep the last batch");
  return batches;
}

std::vector<int64_t> epoch_order(const LoaderOptions& options, int64_t n, int64_t epoch) {
  if (options.train) {
    const auto key = kernels::philox(options.seed, uint64_t(epoch), kShuffleStream);
    return random_permutation(n, uint64_t(key[0]) << 32 | key[1]);
  }
  std::vector<int64_t> order;
  for (int64_t i = 0; i < n; ++i) order.push_back(i);
  return order;
}

void warn_of_skipped(const LoaderOptions& options, const ImageDataset& dataset,
                     const std::map<int64_t, std::string>& skipped) {
  std::string text = concat("warning: ", skipped.size(), " of ", dataset.size(), " pictures of ",
                            dataset.split(), " cannot be decoded and are left out: ");
  int named = 0;
  for (const auto& [i, reason] : skipped) {
    if (named == 3) {
      text += ", ...";
      break;
    }
    text += concat(named++ ? ", " : "", dataset.name(i), " (", reason, ")");
  }
  if (options.warn)
    options.warn(text);
  else
    std::cerr << text << std::endl;
}

}  // namespace weft::data
