#include <algorithm>
#include <cmath>

#include "weft/engine/data/picture_random.h"
#include "weft/engine/data/transforms.h"
#include "weft/engine/error.h"

namespace weft::data {

Crop random_resized_crop(ImageSize size, double min_scale, uint64_t seed, int64_t epoch, int64_t index) {
  check(size.height > 0 && size.width > 0, "random_resized_crop: picture of ", size.width, " x ", size.height,
        " pixels");
  check(min_scale > 0 && min_scale <= 1, "random_resized_crop: min_scale is ", min_scale,
        ", but must be in (0, 1]");
  const double height = size.height, width = size.width;
  constexpr double low = 3.0 / 4, high = 4.0 / 3;
  const bool flip = draw_flip(seed, epoch, index);
  for (uint64_t attempt = 1; attempt <= 10; ++attempt) {
    const auto [u_area, u_ratio, u_top, u_left] = uniform(kCropStream, seed, epoch, index, attempt);
    const double area = height * width * (min_scale + (1 - min_scale) * u_area);
    const double ratio = std::exp(std::log(low) + (std::log(high) - std::log(low)) * u_ratio);
    const double w = std::nearbyint(std::sqrt(area * ratio)), h = std::nearbyint(std::sqrt(area / ratio));
    if (w >= 1 && w <= width && h >= 1 && h <= height)
      return {{std::floor(u_left * (width - w + 1)), std::floor(u_top * (height - h + 1)), w, h}, flip};
  }
  const double w = std::min(width, std::nearbyint(height * high)),
               h = std::min(height, std::nearbyint(width / low));
  return {{std::floor((width - w) / 2), std::floor((height - h) / 2), w, h}, flip};
}

}  // namespace weft::data
