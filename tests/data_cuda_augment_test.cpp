// Batches made on the GPU: crops, mixup and targets against the CPU's.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "weft/engine/data/transforms.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/augment.h"

using namespace weft;
using namespace weft::data;
namespace cuda = weft::kernels::cuda;

namespace {

/// A copy in the device's memory.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values)
      : size_(values.size()), memory_(static_cast<T*>(cuda::allocate(bytes()))) {
    REQUIRE(memory_ != nullptr);
    cuda::upload(memory_, values.data(), int64_t(size_ * sizeof(T)));
  }
  ~OnDevice() { cuda::release(memory_); }
  OnDevice(const OnDevice&) = delete;
  T* data() const { return memory_; }
  std::vector<T> values() const {
    std::vector<T> v(size_);
    cuda::download(v.data(), memory_, int64_t(size_ * sizeof(T)));
    return v;
  }

 private:
  int64_t bytes() const { return int64_t(size_ * sizeof(T)) + 1; }
  size_t size_;
  T* memory_;
};

/// n elements of NaN (all bits set, whatever the type).
template <class T>
std::vector<T> poison(size_t n) {
  std::vector<T> v(n);
  std::memset(static_cast<void*>(v.data()), 0xff, n * sizeof(T));
  return v;
}

using Random = std::mt19937;
int between(Random& random, int low, int high) { return std::uniform_int_distribution(low, high)(random); }
double fraction(Random& random) { return std::uniform_real_distribution(0.0, 1.0)(random); }

Image noise(Random& random, int height, int width) {
  Image image(height, width);
  for (uint8_t& v : image.pixels) v = uint8_t(random());
  return image;
}

/// Pictures one after the other, rows padded to words with bytes that must not matter.
struct Packed {
  std::vector<uint8_t> pixels;
  std::vector<cuda::PictureView> views;

  /// Adds a picture; its axes are to be filled in.
  cuda::PictureView& add(const Image& image) {
    cuda::PictureView view;
    view.offset = int64_t(pixels.size());
    view.pitch = (3 * image.width + 3) / 4 * 4;
    for (int y = 0; y < image.height; ++y) {
      pixels.insert(pixels.end(), image.at(y, 0), image.at(y, 0) + 3 * image.width);
      while (pixels.size() % 4) pixels.push_back(211);
    }
    return views.emplace_back(view);
  }
};

cuda::ResizeAxis axis(double start, double length, int total, int from = 0) {
  return {start, length / total, from, int(std::floor(start)), int(std::ceil(start + length)), 0};
}

constexpr Normalize kNormalize{{0.4f, 0.5f, 0.3f}, {0.2f, 0.3f, 0.4f}};

cuda::AugmentArgs arguments(size_t n, int size, int channels) {
  cuda::AugmentArgs args;
  args.n = int64_t(n), args.size = size, args.channels = channels;
  for (size_t c = 0; c < 3; ++c) {
    args.scale[c] = 1 / (255 * kNormalize.std[c]);
    args.shift[c] = -kNormalize.mean[c] / kNormalize.std[c];
  }
  return args;
}

template <class T>
std::vector<float> augmented(cuda::AugmentArgs args, const Packed& packed,
                             const std::vector<cuda::MixView>* mix = nullptr) {
  const OnDevice<uint8_t> pixels(packed.pixels);
  const OnDevice<cuda::PictureView> views(packed.views);
  const OnDevice<cuda::MixView> mixed(mix ? *mix : std::vector<cuda::MixView>(1));
  if (mix) args.mix = mixed.data();
  const OnDevice<T> out(poison<T>(size_t(args.n * args.size * args.size * args.channels)));
  cuda::augment(args, views.data(), pixels.data(), out.data());
  std::vector<float> values;
  for (T v : out.values()) values.push_back(float(v));
  return values;
}

/// Spreads pixels of 3 channels over more, with zeros.
std::vector<float> padded(const std::vector<float>& values, int channels) {
  std::vector<float> out(values.size() / 3 * size_t(channels));
  for (size_t i = 0; i < values.size(); ++i) out[i / 3 * size_t(channels) + i % 3] = values[i];
  return out;
}

/// The largest of |a - b| - relative |b|, infinite where a is not a number.
double distance(const std::vector<float>& a, const std::vector<float>& b, double relative = 0) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(double(a[i]) - b[i]) - relative * std::abs(b[i]);
    most = d <= most ? most : d > most ? d : std::numeric_limits<double>::infinity();
  }
  return most;
}

/// Random pictures with random boxes, and what the CPU makes of them.
struct Batch {
  Packed packed;
  std::vector<float> wanted;
  int size;

  Batch(Random& random, int n, int side, int most) : size(side) {
    for (int i = 0; i < n; ++i) {
      const bool wide = i == 2;  // wider than the kernel blends at a time
      const int height = i == 0 ? 1 : between(random, 1, wide ? 12 : most),
                width = i <= 1 ? 1 : between(random, wide ? 700 : 1, wide ? 1200 : most);
      const Image image = noise(random, height, width);
      Box box{0, 0, double(width), double(height)};
      if (i % 3 != 0) {
        box.width *= 0.02 + 0.98 * fraction(random), box.height *= 0.02 + 0.98 * fraction(random);
        box.left = (width - box.width) * fraction(random), box.top = (height - box.height) * fraction(random);
      }
      if (i % 3 == 2) {  // whole pixels, as most crops are
        box.left = std::floor(box.left), box.top = std::floor(box.top);
        box.width = std::ceil(box.width), box.height = std::ceil(box.height);
      }
      box.width = std::min(box.width, width - box.left), box.height = std::min(box.height, height - box.top);
      const bool flip = i % 2;
      cuda::PictureView& view = packed.add(image);
      view.flip = flip;
      view.rows = axis(box.top, box.height, side), view.columns = axis(box.left, box.width, side);
      std::vector<float> one(size_t(side) * size_t(side) * 3);
      resize_crop(image, box, side, side, flip, kNormalize, one.data());
      wanted.insert(wanted.end(), one.begin(), one.end());
    }
  }
};

}  // namespace

TEST_CASE("augment makes the pictures that resize_crop makes") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  Random random(seed);
  for (const int size : {1, 2, 7, 8, 24, 33, 129, 150}) {
    CAPTURE(size);
    const Batch batch(random, size > 100 ? 4 : 9, size, 90);
    for (const int channels : {3, 4, 8}) {
      CAPTURE(channels);
      const auto args = arguments(batch.packed.views.size(), size, channels);
      const std::vector<float> wanted = padded(batch.wanted, channels);
      CHECK(distance(augmented<float>(args, batch.packed), wanted) < 1e-5);
      if (size > 100 && channels > 3) continue;
      CHECK(distance(augmented<bf16>(args, batch.packed), wanted, 0x1p-8) < 1e-5);
      CHECK(distance(augmented<f16>(args, batch.packed), wanted, 0x1p-11) < 1e-5);
    }
  }
}

TEST_CASE("augment shrinks large pictures and enlarges small ones") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  Random random(seed);
  for (const auto& sizes : {std::array{300, 3000, 3}, {2000, 5, 2}, {900, 1100, 17}, {3, 2, 60}}) {
    const int height = sizes[0], width = sizes[1], size = sizes[2];
    CAPTURE(height);
    CAPTURE(width);
    CAPTURE(size);
    const Image image = noise(random, height, width);
    Packed packed;
    cuda::PictureView& view = packed.add(image);
    view.rows = axis(0, height, size), view.columns = axis(0, width, size);
    std::vector<float> wanted(size_t(size) * size_t(size) * 3);
    resize_crop(image, {0, 0, double(width), double(height)}, size, size, false, kNormalize, wanted.data());
    CHECK(distance(augmented<float>(arguments(1, size, 3), packed), wanted) < 1e-5);
  }
}

TEST_CASE("augment makes the centre crops of validation") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  Random random(seed);
  for (int i = 0; i < 12; ++i) {
    const int height = between(random, 1, 80), width = between(random, 1, 80), size = between(random, 1, 40),
              resize = size + between(random, 0, 20), least = std::min(height, width);
    CAPTURE(height);
    CAPTURE(width);
    CAPTURE(size);
    CAPTURE(resize);
    const Image image = noise(random, height, width);
    const int tall = resize * height / least, wide = resize * width / least;
    Packed packed;
    cuda::PictureView& view = packed.add(image);
    view.rows = axis(0, height, tall, int(std::nearbyint((tall - size) / 2.0)));
    view.columns = axis(0, width, wide, int(std::nearbyint((wide - size) / 2.0)));
    std::vector<float> wanted(size_t(size) * size_t(size) * 3);
    resize_center_crop(image, size, resize, kNormalize, wanted.data());
    CHECK(distance(augmented<float>(arguments(1, size, 3), packed), wanted) < 1e-5);
  }
}

namespace {

std::vector<cuda::MixView> random_mix(Random& random, int n) {
  std::vector<cuda::MixView> mix;
  for (int i = 0; i < n; ++i)  // some pictures stay as they are
    mix.push_back({i % 4 == 1 ? 1.0f : float(0.5 + 0.5 * fraction(random)), between(random, 0, n - 1)});
  return mix;
}

/// n rows mixed on the CPU.
std::vector<float> mixed(const std::vector<float>& x, const std::vector<cuda::MixView>& mix) {
  const size_t row = x.size() / mix.size();
  std::vector<float> y(x.size());
  for (size_t i = 0; i < mix.size(); ++i)
    for (size_t k = 0; k < row; ++k) {
      const double w = mix[i].weight;
      y[i * row + k] = float(w * x[i * row + k] + (1 - w) * x[size_t(mix[i].partner) * row + k]);
    }
  return y;
}

template <class From, class To>
void check_mixup(Random& random, int n, int row, double relative) {
  CAPTURE(n);
  CAPTURE(row);
  const auto mix = random_mix(random, n);
  std::vector<From> x;
  std::vector<float> same;
  for (int i = 0; i < n * row; ++i) {
    x.push_back(From(float(4 * fraction(random) - 2)));
    same.push_back(float(x.back()));
  }
  const OnDevice<From> source(x);
  const OnDevice<cuda::MixView> views(mix);
  for (const bool mixing : {true, false}) {
    const OnDevice<To> out(poison<To>(x.size()));
    cuda::mixup(n, row, mixing ? views.data() : nullptr, source.data(), out.data());
    std::vector<float> got;
    for (To v : out.values()) got.push_back(float(v));
    CHECK(distance(got, mixing ? mixed(same, mix) : same, relative) < 1e-6);
  }
}

}  // namespace

TEST_CASE("augment mixes pictures of the batch") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  Random random(seed);
  for (const int size : {5, 24}) {
    const Batch batch(random, 9, size, 60);
    const auto mix = random_mix(random, 9);
    const std::vector<float> wanted = mixed(batch.wanted, mix);
    for (const int channels : {3, 4}) {
      const auto args = arguments(9, size, channels);
      CHECK(distance(augmented<float>(args, batch.packed, &mix), padded(wanted, channels)) < 1e-5);
      CHECK(distance(augmented<bf16>(args, batch.packed, &mix), padded(wanted, channels), 0x1p-8) < 1e-5);
    }
  }
}

TEST_CASE("mixup mixes rows, and converts") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  Random random(seed);
  for (const auto& [n, row] : {std::array{1, 1}, {3, 5}, {7, 64}, {5, 3 * 31 * 31}, {4, 3 * 32 * 32}}) {
    check_mixup<float, float>(random, n, row, 1e-6);
    check_mixup<bf16, bf16>(random, n, row, 0x1p-8);
    check_mixup<f16, f16>(random, n, row, 0x1p-11);
    check_mixup<float, bf16>(random, n, row, 0x1p-8);
    check_mixup<float, f16>(random, n, row, 0x1p-11);
  }
}

TEST_CASE("mixup pads channels") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  Random random(seed);
  const int n = 5, pixels = 7 * 7;
  std::vector<float> x;
  for (int i = 0; i < n * pixels * 3; ++i) x.push_back(float(fraction(random)));
  const auto mix = random_mix(random, n);
  const OnDevice<float> source(x);
  const OnDevice<cuda::MixView> views(mix);
  for (const int channels : {4, 8})
    for (const bool mixing : {true, false}) {
      const OnDevice<bf16> out(poison<bf16>(size_t(n * pixels * channels)));
      cuda::mixup_padded(n, pixels, channels, mixing ? views.data() : nullptr, source.data(), out.data());
      std::vector<float> got;
      for (bf16 v : out.values()) got.push_back(float(v));
      CHECK(distance(got, padded(mixing ? mixed(x, mix) : x, channels), 0x1p-8) < 1e-6);
    }
}

TEST_CASE("labels are gathered, and targets mixed") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  Random random(seed);
  for (const auto& sizes : {std::array{1, 1}, {3, 2}, {130, 10}, {65, 1000}}) {
    const int n = sizes[0], classes = sizes[1];
    CAPTURE(n);
    CAPTURE(classes);
    std::vector<int64_t> all(200), index, labels;
    for (int64_t& label : all) label = between(random, 0, classes - 1);
    for (int i = 0; i < n; ++i) {
      index.push_back(between(random, 0, 199));
      labels.push_back(all[size_t(index.back())]);
    }
    const OnDevice<int64_t> every(all), chosen(index), out(std::vector<int64_t>(size_t(n), -7));
    cuda::gather_labels(n, every.data(), chosen.data(), out.data());
    CHECK(out.values() == labels);
    cuda::gather_labels(n, every.data(), nullptr, out.data());
    CHECK(out.values() == std::vector<int64_t>(all.begin(), all.begin() + n));

    const auto mix = random_mix(random, n);
    std::vector<float> plain(size_t(n * classes)), wanted(plain);
    for (int i = 0; i < n; ++i) {
      const cuda::MixView m = mix[size_t(i)];
      plain[size_t(i * classes + labels[size_t(i)])] = 1;
      wanted[size_t(i * classes + labels[size_t(i)])] += m.weight;
      wanted[size_t(i * classes + labels[size_t(m.partner)])] += 1 - m.weight;
    }
    const OnDevice<int64_t> given(labels);
    const OnDevice<cuda::MixView> views(mix);
    const OnDevice<float> targets(poison<float>(plain.size()));
    cuda::mix_targets(n, classes, nullptr, given.data(), targets.data());
    CHECK(targets.values() == plain);
    cuda::mix_targets(n, classes, views.data(), given.data(), targets.data());
    CHECK(distance(targets.values(), wanted) < 1e-6);
  }
}
