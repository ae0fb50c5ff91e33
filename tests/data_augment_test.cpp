// Colour jitter against torchvision, and what is drawn for it, for erasing and for CutMix.
#include "weft/engine/data/augment.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "support/data_files.h"
#include "support/errors.h"
#include "weft/engine/data/loader.h"
#include "weft/engine/data/mixing.h"
#include "weft/engine/safetensors.h"

using namespace weft;
using namespace weft::data;
using kernels::ColorStep;

namespace {

bool same(const PixelBox& a, const PixelBox& b) {
  return a.top == b.top && a.left == b.left && a.height == b.height && a.width == b.width;
}

ImageDataset pictures(int n) {
  std::vector<ImageDataset::Sample> samples;
  for (int i = 0; i < n; ++i) {
    Image image(12, 15);
    uint32_t state = uint32_t(i) * 2654435761u + 77;
    for (uint8_t& v : image.pixels) v = uint8_t((state = state * 1664525u + 1013904223u) >> 24);
    samples.push_back({{std::to_string(i), std::make_shared<const test::Content>(encode_png(image)), {}}, 0});
  }
  return ImageDataset("train", {"only"}, std::move(samples));
}

std::vector<float> first_batch(const LoaderOptions& options) {
  ImageLoader loader(pictures(options.batch_size), options);
  loader.begin_epoch(3);
  return loader.next()->images.to_vector<float>();
}

}  // namespace

TEST_CASE("colours change as torchvision changes them") {
  const StateDict list = load_safetensors(std::string(WEFT_TEST_DIR) + "/golden/augment.safetensors");
  const std::map<std::string, Tensor> golden(list.begin(), list.end());
  int cases = 0;
  for (;; ++cases) {
    const std::string name = concat("jitter.", cases, ".");
    if (!golden.count(name + "source")) break;
    CAPTURE(cases);
    const std::vector<double> factors = golden.at(name + "factors").to_vector<double>();
    const std::vector<int64_t> order = golden.at(name + "order").to_vector<int64_t>();
    kernels::ColorJitterFactors f{float(factors[0]), float(factors[1]), float(factors[2]), float(factors[3])};
    for (size_t i = 0; i < 4; ++i) f.order[i] = ColorStep(order[i]);
    std::vector<float> pixels = golden.at(name + "source").to_vector<float>();
    apply_jitter(f, int64_t(pixels.size() / 3), pixels.data());
    const std::vector<float> wanted = golden.at(name + "out").to_vector<float>();
    double worst = 0;
    for (size_t i = 0; i < pixels.size(); ++i) {
      CHECK(std::isfinite(pixels[i]));
      worst = std::max(worst, std::abs(double(pixels[i]) - wanted[i]));
    }
    CHECK(worst < 2e-6);
  }
  CHECK(cases == 35);
}

TEST_CASE("crops after padding are torchvision's RandomCrop, mirrored after it") {
  const StateDict list = load_safetensors(std::string(WEFT_TEST_DIR) + "/golden/augment.safetensors");
  const std::map<std::string, Tensor> golden(list.begin(), list.end());
  int cases = 0;
  for (;; ++cases) {
    const std::string name = concat("pad.", cases, ".");
    if (!golden.count(name + "out")) break;
    CAPTURE(name);
    const std::vector<int64_t> c = golden.at(name + "crop").to_vector<int64_t>();
    const kernels::PaddedCrop crop{
        .down = int32_t(c[2] - c[0]), .right = int32_t(c[3] - c[0]), .flip = c[4] != 0, .reflect = c[1] != 0};
    std::vector<float> out(243);
    apply_padded_crop(crop, 9, {0, 0, 0}, golden.at(name + "source").data<float>(), out.data());
    CHECK(out == golden.at(name + "out").to_vector<float>());
  }
  CHECK(cases == 9);
}

TEST_CASE("places of crops after padding are uniform, and flips are those of the other crop") {
  for (const int padding : {1, 4}) {
    const PadAndCrop pad{.padding = padding, .mode = PaddingMode::reflect};
    const int places = 2 * padding + 1;
    std::map<std::pair<int, int>, int> seen;
    const int n = 400 * places * places;
    for (int i = 0; i < n; ++i) {
      const kernels::PaddedCrop crop = draw_padded_crop(pad, 5, 2, i);
      CHECK(crop.reflect);
      if (i < 1000) CHECK(crop.flip == random_resized_crop({32, 32}, 0.35, 5, 2, i).flip);
      ++seen[{crop.down, crop.right}];
    }
    CHECK(int(seen.size()) == places * places);
    double chi = 0;  // of places^2 - 1 degrees of freedom
    for (const auto& [place, count] : seen) {
      CHECK(std::max(std::abs(place.first), std::abs(place.second)) <= padding);
      chi += (count - 400.0) * (count - 400.0) / 400;
    }
    CHECK(chi < places * places + 4 * std::sqrt(2.0 * places * places));
  }
  const auto a = draw_padded_crop({.padding = 4}, 5, 2, 9), b = draw_padded_crop({.padding = 4}, 5, 2, 9);
  CHECK((a.down == b.down && a.right == b.right && a.flip == b.flip && !a.reflect));
}

TEST_CASE("the loader pads and crops what validation would see, then jitters and erases, in training alone") {
  for (const bool flip : {true, false})
    for (const bool jitter : {true, false})
      for (const PaddingMode mode : {PaddingMode::constant, PaddingMode::reflect}) {
        const ImageDataset set = pictures(12);
        LoaderOptions options{.size = 9, .batch_size = 1, .flip = flip, .seed = 8};
        options.pad = {.padding = 3, .mode = mode};
        if (jitter) options.jitter = {.contrast = 0.5, .hue = 0.2};
        options.erasing = {.p = 0.5};
        ImageLoader loader(set, options);
        loader.begin_epoch(3);
        LoaderOptions valid{.size = 9, .batch_size = 12, .train = false};
        valid.normalize = {{0, 0, 0}, {1, 1, 1}};
        ImageLoader plain(set, valid);
        plain.begin_epoch(0);
        const std::vector<float> whole = plain.next()->images.to_vector<float>();
        const auto& [mean, std] = Normalize{};
        int found = 0, moved = 0;
        while (const auto batch = loader.next()) {
          const float* got = batch->images.data<float>();
          for (int i = 0; i < 12; ++i) {  // which picture it is
            kernels::PaddedCrop crop = draw_padded_crop(options.pad, 8, 3, i);
            crop.flip = crop.flip && flip;
            std::vector<float> own(243);
            apply_padded_crop(crop, 9, {0, 0, 0}, whole.data() + i * 243, own.data());
            if (jitter) apply_jitter(draw_jitter(options.jitter, 8, 3, i), 81, own.data());
            const PixelBox box = draw_erasing(options.erasing, {9, 9}, 8, 3, i);
            double off = 0;
            for (int p = 0; p < 243; ++p) {
              const size_t c = size_t(p % 3);
              const double value =
                  box.holds(p / 27, p / 3 % 9) ? 0 : (double(own[size_t(p)]) - mean[c]) / std[c];
              off = std::max(off, std::abs(value - got[p]));
            }
            found += off < 1e-5;
            moved += off < 1e-5 && (crop.down != 0 || crop.right != 0);
          }
        }
        CHECK(found == 12);
        CHECK(moved > 6);
        options.train = false;
        CHECK(first_batch(options) == [&] {
          LoaderOptions no_pad = options;
          no_pad.pad = {};
          return first_batch(no_pad);
        }());
      }
}

TEST_CASE(
    "factors of colour jitter have their ranges, orders are random, and all depends on the sample alone") {
  const ColorJitter jitter{.brightness = 0.4, .contrast = 2, .saturation = 0, .hue = 0.1};
  std::set<std::array<int, 4>> orders;
  double lowest = 9, highest = 0, hue = 0, sum = 0;
  const int n = 4000;
  for (int i = 0; i < n; ++i) {
    const auto f = draw_jitter(jitter, 5, 2, i);
    lowest = std::min<double>(lowest, f.brightness), highest = std::max<double>(highest, f.brightness);
    CHECK(f.contrast >= 0);
    CHECK(f.contrast <= 3);
    CHECK(f.saturation == 1);
    hue = std::max<double>(hue, std::abs(f.hue)), sum += double(f.hue);
    std::array<int, 4> order;
    for (size_t k = 0; k < 4; ++k) order[k] = int(f.order[k]);
    orders.insert(order);
    std::sort(order.begin(), order.end());
    CHECK(order == std::array{0, 1, 2, 3});
    CHECK(draw_jitter(jitter, 5, 2, i).brightness == f.brightness);
  }
  CHECK(orders.size() == 24);
  CHECK(lowest == doctest::Approx(0.6).epsilon(0.01));
  CHECK(highest == doctest::Approx(1.4).epsilon(0.01));
  CHECK(hue == doctest::Approx(0.1).epsilon(0.01));
  CHECK(std::abs(sum / n) < 0.004);
  CHECK(draw_jitter(jitter, 5, 3, 0).brightness != draw_jitter(jitter, 5, 2, 0).brightness);
  CHECK(draw_jitter(jitter, 6, 2, 0).brightness != draw_jitter(jitter, 5, 2, 0).brightness);
}

TEST_CASE("erased boxes have their probability, areas and ratios, and lie in the picture") {
  RandomErasing erasing{.p = 0.3};
  const int n = 20000, height = 40, width = 60;
  int boxes = 0;
  double area = 0, log_ratio = 0;
  for (int i = 0; i < n; ++i) {
    const PixelBox b = draw_erasing(erasing, {height, width}, 9, 1, i);
    CHECK(same(b, draw_erasing(erasing, {height, width}, 9, 1, i)));
    if (b.height == 0) continue;
    ++boxes;
    CHECK(b.top >= 0);
    CHECK(b.left >= 0);
    CHECK(b.top + b.height <= height);
    CHECK(b.left + b.width <= width);
    const double share = double(b.height) * b.width / (height * width);
    CHECK(share > 0.017);
    CHECK(share < 0.345);
    area += share, log_ratio += std::log(double(b.height) / b.width);
  }
  CHECK(double(boxes) / n == doctest::Approx(0.3).epsilon(0.04));
  CHECK(area / boxes == doctest::Approx(0.175).epsilon(0.05));
  CHECK(std::abs(log_ratio / boxes) < 0.1);
  erasing.p = 0;
  CHECK(draw_erasing(erasing, {height, width}, 9, 1, 0).height == 0);
  erasing = {.p = 1, .min_area = 1, .max_area = 1};  // never smaller than the picture
  CHECK(draw_erasing(erasing, {height, width}, 9, 1, 0).height == 0);
}

TEST_CASE("CutMix: weights are the shares that stay, boxes lie in the picture") {
  for (const int side : {1, 2, 7, 32}) {
    CAPTURE(side);
    std::vector<Mix> mix(3000), again(3000);
    draw_cutmix(1, side, 42, mix);
    draw_cutmix(1, side, 42, again);
    std::set<int64_t> partners;
    double kept = 0;
    for (size_t i = 0; i < mix.size(); ++i) {
      const auto& [weight, partner, cut] = mix[i];
      partners.insert(partner);
      CHECK(weight == again[i].weight);
      CHECK(same(cut, again[i].cut));
      CHECK(cut.top >= 0);
      CHECK(cut.left >= 0);
      CHECK(cut.top + cut.height <= side);
      CHECK(cut.left + cut.width <= side);
      CHECK(weight == doctest::Approx(1 - double(cut.height) * cut.width / (side * side)));
      kept += double(weight);
    }
    CHECK(partners.size() == mix.size());
    // The mean of what clipping leaves of boxes of side sqrt(1 - w), w uniform, around uniform places: with
    // s = sqrt(1 - w) it is E (s - s^2 / 4)^2 = 1/2 - 1/5 + 1/48.
    if (side == 32) CHECK(1 - kept / 3000 == doctest::Approx(0.5 - 0.2 + 1.0 / 48).epsilon(0.08));
  }
}

TEST_CASE("CutMix cuts images as it says, and mixes labels by area") {
  const int64_t n = 5, side = 6, classes = 4;
  Tensor images = Tensor::empty({n, side, side, 3}), labels = Tensor::empty({n}, DType::i64);
  for (int64_t i = 0; i < images.numel(); ++i) images.data<float>()[i] = float(i);
  for (int64_t i = 0; i < n; ++i) labels.data<int64_t>()[i] = i % classes;
  std::vector<Mix> mix(n);
  draw_cutmix(1, side, 3, mix);
  mix[0] = {.weight = 0.25f, .partner = 4, .cut = {}};  // both kinds in one batch
  const auto [x, y, targets] = mixup({images, labels}, mix, classes);
  for (int64_t i = 0; i < n; ++i) {
    const Mix& m = mix[size_t(i)];
    for (int64_t p = 0; p < side * side * 3; ++p) {
      const float own = float(i * side * side * 3 + p), other = float(m.partner * side * side * 3 + p);
      const float got = x.data<float>()[i * side * side * 3 + p];
      if (i == 0)
        CHECK(got == doctest::Approx(0.25 * own + 0.75 * other));
      else
        CHECK(got == (m.cut.holds(int(p / 3 / side), int(p / 3 % side)) ? other : own));
    }
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += double(targets.data<float>()[i * classes + c]);
    CHECK(sum == doctest::Approx(1));
    if (i % classes != m.partner % classes)
      CHECK(targets.data<float>()[i * classes + i % classes] == doctest::Approx(m.weight));
  }
}

TEST_CASE("the loader jitters, then normalises, then erases, in training alone") {
  LoaderOptions plain{.size = 9, .batch_size = 12, .min_scale = 0.6, .seed = 8};
  plain.normalize = {{0, 0, 0}, {1, 1, 1}};
  const std::vector<float> before = first_batch(plain);
  for (const bool jitter : {true, false})
    for (const bool erase : {true, false})
      for (const ErasingFill fill : {ErasingFill::mean, ErasingFill::black}) {
        LoaderOptions options = plain;
        options.normalize = {};
        if (jitter) options.jitter = {.brightness = 0.5, .contrast = 0.5, .saturation = 0.5, .hue = 0.2};
        if (erase) options.erasing = {.p = 0.7, .fill = fill};
        const std::vector<float> got = first_batch(options);
        const auto& [mean, std] = Normalize{};
        double worst = 0;
        int erased = 0;
        // Which picture stands where follows from the pixels alone: try all indices.
        for (int k = 0; k < 12; ++k) {
          double best = INFINITY;
          for (int i = 0; i < 12; ++i) {
            std::vector<float> own(before.begin() + k * 243, before.begin() + (k + 1) * 243);
            if (jitter) apply_jitter(draw_jitter(options.jitter, 8, 3, i), 81, own.data());
            const PixelBox box = draw_erasing(options.erasing, {9, 9}, 8, 3, i);
            double off = 0;
            for (int p = 0; p < 243; ++p) {
              const size_t c = size_t(p % 3);
              double value = (double(own[size_t(p)]) - mean[c]) / std[c];
              if (box.holds(p / 27, p / 3 % 9)) value = fill == ErasingFill::mean ? 0 : -mean[c] / std[c];
              off = std::max(off, std::abs(value - got[size_t(k * 243 + p)]));
            }
            if (off < best) best = off, erased += box.height > 0;
          }
          worst = std::max(worst, best);
        }
        CHECK(worst < 1e-5);
        CHECK((erased > 0) == erase);
        options.train = plain.train = false;
        const std::vector<float> a = first_batch(options);
        plain.normalize = {};
        CHECK(a == first_batch(plain));
        plain.train = true, plain.normalize = {{0, 0, 0}, {1, 1, 1}};
      }
}

TEST_CASE("augmentations that make no sense") {
  const auto error_with = [](const ColorJitter& jitter, const RandomErasing& erasing) {
    LoaderOptions options{.batch_size = 1};
    options.jitter = jitter, options.erasing = erasing;
    return error_of([&] { ImageLoader(pictures(1), options); });
  };
  const auto pad_error = [](const PadAndCrop& pad) {
    LoaderOptions options{.size = 8, .batch_size = 1};
    options.pad = pad;
    return error_of([&] { ImageLoader(pictures(1), options); });
  };
  CHECK(mentions(pad_error({.padding = -1}), "padding is -1"));
  CHECK(mentions(pad_error({.padding = 9}), "padding is 9, but must be at most 8 for pictures of 8 x 8"));
  CHECK(mentions(pad_error({.padding = 8, .mode = PaddingMode::reflect}),
                 "at most 7 to reflect pictures of 8 x 8"));
  CHECK(mentions(error_with({.brightness = -1}, {}), "brightness is -1"));
  CHECK(mentions(error_with({.contrast = NAN}, {}), "contrast is nan"));
  CHECK(mentions(error_with({.hue = 0.6}, {}), "hue is 0.6, but must be 0 to 0.5"));
  CHECK(mentions(error_with({}, {.p = 1.5}), "p is 1.5"));
  CHECK(mentions(error_with({}, {.p = 1, .min_area = 0.5, .max_area = 0.2}), "areas from 0.5 to 0.2"));
  CHECK(mentions(error_with({}, {.p = 1, .min_ratio = 0}), "ratios from 0"));
}
