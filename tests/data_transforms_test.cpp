// Crops and resizing: against Pillow's pixels and torchvision's rules.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>

#include "support/errors.h"
#include "weft/engine/data/transforms.h"
#include "weft/engine/safetensors.h"

using namespace weft;
using namespace weft::data;

namespace {

StateDict golden() { return load_safetensors(std::string(WEFT_TEST_DIR) + "/golden/data.safetensors"); }

Image image_from(const Tensor& t) {
  Image image(int(t.size(0)), int(t.size(1)));
  image.pixels = t.to_vector<uint8_t>();
  return image;
}

constexpr Normalize kPlain{{0, 0, 0}, {1, 1, 1}};

}  // namespace

TEST_CASE("resizing a box agrees with Pillow to one grey level") {
  const StateDict dict = golden();
  const Image source = image_from(find(dict, "resize.source"));
  int cases = 0;
  for (; find(dict, concat("resize.", cases, ".case")).defined(); ++cases) {
    CAPTURE(cases);
    const auto c = find(dict, concat("resize.", cases, ".case")).to_vector<int64_t>();
    const Image wanted = image_from(find(dict, concat("resize.", cases, ".out")));
    const Box box{double(c[0]), double(c[1]), double(c[2]), double(c[3])};
    const Image out = resize(source, box, int(c[4]), int(c[5]));
    REQUIRE(out.pixels.size() == wanted.pixels.size());
    std::vector<float> values(out.pixels.size()), mirrored(out.pixels.size());
    resize_crop(source, box, int(c[4]), int(c[5]), false, kPlain, values.data());
    resize_crop(source, box, int(c[4]), int(c[5]), true, kPlain, mirrored.data());
    double total = 0;
    for (size_t i = 0; i < out.pixels.size(); ++i) {
      CHECK(std::abs(int(out.pixels[i]) - int(wanted.pixels[i])) <= 1);
      CHECK(std::abs(values[i] * 255 - wanted.pixels[i]) <= 1.01);
      total += values[i] * 255 - wanted.pixels[i];
    }
    CHECK(std::abs(total / double(values.size())) < 0.25);  // no shift in brightness
    const size_t width = size_t(c[5]);
    for (size_t y = 0; y < size_t(c[4]); ++y)
      for (size_t x = 0; x < width; ++x)
        for (size_t k = 0; k < 3; ++k)
          CHECK(mirrored[(y * width + x) * 3 + k] == values[(y * width + width - 1 - x) * 3 + k]);
  }
  CHECK(cases == 7);
}

TEST_CASE("the centre crop agrees with torchvision's Resize and CenterCrop, enlarging where it must") {
  const StateDict dict = golden();
  const Image source = image_from(find(dict, "resize.source"));
  int cases = 0;
  for (; find(dict, concat("center.", cases, ".case")).defined(); ++cases) {
    CAPTURE(cases);
    const auto c = find(dict, concat("center.", cases, ".case")).to_vector<int64_t>();
    const Tensor wanted = find(dict, concat("center.", cases, ".out"));
    std::vector<float> values(size_t(wanted.numel()));
    resize_center_crop(source, int(c[0]), int(c[1]), kPlain, values.data());
    for (size_t i = 0; i < values.size(); ++i)
      CHECK(std::abs(values[i] * 255 - wanted.at(int64_t(i))) <= 1.01);
  }
  CHECK(cases == 4);
}

TEST_CASE("normalising is per channel") {
  Image grey(4, 4);
  std::fill(grey.pixels.begin(), grey.pixels.end(), uint8_t{51});  // 0.2
  std::vector<float> out(2 * 2 * 3);
  resize_center_crop(grey, 2, 2, {}, out.data());
  for (size_t i = 0; i < out.size(); i += 3) {
    CHECK(out[i] == doctest::Approx((0.2 - 0.485) / 0.229));
    CHECK(out[i + 1] == doctest::Approx((0.2 - 0.456) / 0.224));
    CHECK(out[i + 2] == doctest::Approx((0.2 - 0.406) / 0.225));
  }
}

TEST_CASE("boxes with fractions, pictures of one row, and what cannot be") {
  Image row(1, 300);
  for (int x = 0; x < 300; ++x) row.at(0, x)[0] = uint8_t(x * 255 / 299);
  std::vector<float> out(8 * 8 * 3);
  resize_crop(row, {10.3, 0.2, 200.1, 0.7}, 8, 8, false, kPlain, out.data());
  for (size_t x = 1; x < 8; ++x) CHECK(out[x * 3] > out[x * 3 - 3]);
  resize_center_crop(row, 8, 8, kPlain, out.data());
  CHECK(std::abs(out[0] - 0.5f) < 0.02f);

  CHECK_ERROR(resize(row, {0, 0, 301, 1}, 4, 4), "does not lie in a picture of 300 x 1");
  CHECK_ERROR(resize(row, {0, 0, 0, 1}, 4, 4), "does not lie in");
  CHECK_ERROR(resize(row, {std::nan(""), 0, 1, 1}, 4, 4), "does not lie in");
  CHECK_ERROR(resize_center_crop(row, 8, 7, kPlain, out.data()), "must hold the crop of 8");
  CHECK_ERROR(resize_center_crop(Image(1, 60000), 32768, 32768, kPlain, out.data()), "too thin");
}

TEST_CASE("random crops follow torchvision's rules") {
  const ImageSize size{120, 160};
  const double min_scale = 0.35;
  double area = 0, flips = 0, log_ratio = 0;
  const int n = 4000;
  for (int i = 0; i < n; ++i) {
    const auto [box, flip] = random_resized_crop(size, min_scale, 7, 3, i);
    CHECK((box.left >= 0 && box.top >= 0 && box.left + box.width <= 160 && box.top + box.height <= 120));
    for (double v : {box.left, box.top, box.width, box.height}) CHECK(v == std::floor(v));
    const double share = box.width * box.height / (120 * 160), ratio = box.width / box.height;
    CHECK((share > min_scale - 0.02 && share <= 1));
    CHECK((ratio > 0.73 && ratio < 1.36));
    area += share, flips += flip, log_ratio += std::log(ratio);
  }
  CHECK(flips / n == doctest::Approx(0.5).epsilon(0.05));
  // Large crops of extreme ratios do not fit into a wide picture and are drawn again: the means are below
  // 0.675 and not 0.
  CHECK((area / n > 0.58 && area / n < 0.68));
  CHECK(std::abs(log_ratio / n) < 0.15);
}

TEST_CASE("a crop depends on seed, epoch and index, and on nothing else") {
  const ImageSize size{150, 150};
  const auto box = [&](uint64_t seed, int64_t epoch, int64_t i) {
    return random_resized_crop(size, 0.35, seed, epoch, i).box;
  };
  CHECK(box(1, 2, 3) == box(1, 2, 3));
  CHECK_FALSE(box(1, 2, 3) == box(2, 2, 3));
  CHECK_FALSE(box(1, 2, 3) == box(1, 3, 3));
  CHECK_FALSE(box(1, 2, 3) == box(1, 2, 4));
}

TEST_CASE("where no crop fits, the middle is taken at the nearest ratio") {
  CHECK(random_resized_crop({10, 1000}, 1, 1, 0, 0).box == Box{493, 0, 13, 10});
  CHECK(random_resized_crop({1000, 10}, 1, 1, 0, 0).box == Box{0, 493, 10, 13});
  CHECK(random_resized_crop({1, 1}, 0.35, 1, 0, 0).box == Box{0, 0, 1, 1});
  CHECK_ERROR(random_resized_crop({10, 10}, 0, 1, 0, 0), "min_scale is 0");
  CHECK_ERROR(random_resized_crop({0, 10}, 0.5, 1, 0, 0), "10 x 0");
}
