#include "weft/engine/data/augment.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "weft/engine/data/picture_random.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

// Apart from the other streams of the seed: "jitt" and "eras".
constexpr uint64_t kJitterStream = 0x6a697474, kErasingStream = 0x65726173;

float factor(double strength, double u) {
  if (strength <= 0) return 1;
  const double low = std::max(0.0, 1 - strength);
  return float(low + (1 + strength - low) * u);
}

}  // namespace

void check_options(const PadAndCrop& pad, int size) {
  check(pad.padding >= 0, "pad and crop: padding is ", pad.padding, ", but must be 0 or more");
  const int most = pad.mode == PaddingMode::reflect ? size - 1 : size;
  check(pad.padding <= most, "pad and crop: padding is ", pad.padding, ", but must be at most ", most,
        pad.mode == PaddingMode::reflect ? " to reflect pictures of " : " for pictures of ", size, " x ",
        size);
}

void check_options(const ColorJitter& j) {
  const auto require = [](bool ok, const char* name, double value, const char* range) {
    check(std::isfinite(value) && value >= 0 && ok, "color jitter: ", name, " is ", value, ", but must be ",
          range);
  };
  require(true, "brightness", j.brightness, "0 or more");
  require(true, "contrast", j.contrast, "0 or more");
  require(true, "saturation", j.saturation, "0 or more");
  require(j.hue <= 0.5, "hue", j.hue, "0 to 0.5");
}

void check_options(const RandomErasing& e) {
  check(e.p >= 0 && e.p <= 1, "random erasing: p is ", e.p, ", but must be 0 to 1");
  check(e.min_area > 0 && e.min_area <= e.max_area && e.max_area <= 1, "random erasing: areas from ",
        e.min_area, " to ", e.max_area, " are not shares of the picture, the smaller first");
  check(e.min_ratio > 0 && e.min_ratio <= e.max_ratio && std::isfinite(e.max_ratio),
        "random erasing: ratios from ", e.min_ratio, " to ", e.max_ratio,
        " are not above 0, the smaller first");
}

kernels::PaddedCrop draw_padded_crop(const PadAndCrop& pad, uint64_t seed, int64_t epoch, int64_t index) {
  const auto place = uniform(kCropStream, seed, epoch, index, 1);
  const auto shift = [&](double u) { return int32_t(u * (2 * pad.padding + 1)) - pad.padding; };
  return {.down = shift(place[0]),
          .right = shift(place[1]),
          .flip = draw_flip(seed, epoch, index),
          .reflect = pad.mode == PaddingMode::reflect};
}

kernels::ColorJitterFactors draw_jitter(const ColorJitter& jitter, uint64_t seed, int64_t epoch,
                                        int64_t index) {
  const auto u = uniform(kJitterStream, seed, epoch, index, 0),
             shuffle = uniform(kJitterStream, seed, epoch, index, 1);
  kernels::ColorJitterFactors f;
  f.brightness = factor(jitter.brightness, u[0]);
  f.contrast = factor(jitter.contrast, u[1]);
  f.saturation = factor(jitter.saturation, u[2]);
  f.hue = float(jitter.hue * (2 * u[3] - 1));
  for (int i = 3; i > 0; --i) std::swap(f.order[i], f.order[int(shuffle[size_t(i)] * (i + 1))]);
  return f;
}

PixelBox draw_erasing(const RandomErasing& e, ImageSize size, uint64_t seed, int64_t epoch, int64_t index) {
  if (uniform(kErasingStream, seed, epoch, index, 0)[0] >= e.p) return {};
  const double low = std::log(e.min_ratio), high = std::log(e.max_ratio);
  for (uint64_t attempt = 1; attempt <= 10; ++attempt) {
    const auto [u_area, u_ratio, u_top, u_left] = uniform(kErasingStream, seed, epoch, index, attempt);
    const double area = double(size.height) * size.width * (e.min_area + (e.max_area - e.min_area) * u_area);
    const double ratio = std::exp(low + (high - low) * u_ratio);
    const double h = std::nearbyint(std::sqrt(area * ratio)), w = std::nearbyint(std::sqrt(area / ratio));
    if (h >= 1 && w >= 1 && h < size.height && w < size.width)
      return {int32_t(u_top * (size.height - h + 1)), int32_t(u_left * (size.width - w + 1)), int32_t(h),
              int32_t(w)};
  }
  return {};
}

void apply_padded_crop(const kernels::PaddedCrop& crop, int size, const std::array<float, 3>& fill,
                       const float* rgb, float* out) {
  for (int y = 0; y < size; ++y) {
    const int row = crop.row(y, size);
    for (int x = 0; x < size; ++x, out += 3) {
      const int column = crop.column(x, size);
      std::copy_n(row < 0 || column < 0 ? fill.data() : rgb + (int64_t{row} * size + column) * 3, 3, out);
    }
  }
}

void apply_jitter(const kernels::ColorJitterFactors& factors, int64_t pixels, float* rgb) {
  const int before = kernels::steps_before_contrast(factors);
  const auto pixel_at = [&](int64_t i, float(&c)[3]) {
    c[0] = rgb[3 * i], c[1] = rgb[3 * i + 1], c[2] = rgb[3 * i + 2];
  };
  double sum = 0;
  float c[3];
  for (int64_t i = 0; factors.contrast != 1 && i < pixels; ++i) {
    pixel_at(i, c);
    kernels::jitter_pixel(factors, 0, before, 0, c);
    sum += double(kernels::luma(c));
  }
  const float mean = float(sum / double(std::max<int64_t>(pixels, 1)));
  for (int64_t i = 0; i < pixels; ++i) {
    pixel_at(i, c);
    kernels::jitter_pixel(factors, 0, 4, mean, c);
    rgb[3 * i] = c[0], rgb[3 * i + 1] = c[1], rgb[3 * i + 2] = c[2];
  }
}

}  // namespace weft::data
