// The sample set: its layout, that it is the same each time, and that it is not too easy.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <numeric>
#include <set>

#include "support/data_files.h"
#include "support/errors.h"
#include "weft/engine/data/data.h"
#include "weft/engine/random.h"

using namespace weft;
using namespace weft::data;
using namespace weft::test;

namespace {

// Multinomial logistic regression by SGD on normalised pixels.
class LinearClassifier {
 public:
  explicit LinearClassifier(size_t inputs) : inputs_(inputs), weights_(10 * (inputs + 1), 0.0f) {}

  std::array<float, 10> probabilities(const float* x) const {
    std::array<float, 10> p;
    for (size_t c = 0; c < 10; ++c) {
      const float* w = &weights_[c * (inputs_ + 1)];
      float lanes[8] = {w[inputs_]};
      for (size_t i = 0; i < inputs_; i += 8)
        for (size_t k = 0; k < 8; ++k) lanes[k] += w[i + k] * x[i + k];
      p[c] = std::accumulate(lanes, lanes + 8, 0.0f);
    }
    const float top = *std::max_element(p.begin(), p.end());
    float sum = 0;
    for (float& v : p) sum += v = std::exp(v - top);
    for (float& v : p) v /= sum;
    return p;
  }
  void step(const float* x, int64_t label, float rate) {
    const auto p = probabilities(x);
    for (size_t c = 0; c < 10; ++c) {
      const float g = rate * (p[c] - float(int64_t(c) == label));
      float* w = &weights_[c * (inputs_ + 1)];
      for (size_t i = 0; i < inputs_; ++i) w[i] -= g * x[i];
      w[inputs_] -= g;
    }
  }
  double accuracy(const std::vector<float>& images, const std::vector<int64_t>& labels) const {
    int right = 0;
    for (size_t i = 0; i < labels.size(); ++i) {
      const auto p = probabilities(&images[i * inputs_]);
      right += std::max_element(p.begin(), p.end()) - p.begin() == labels[i];
    }
    return double(right) / double(labels.size());
  }

 private:
  size_t inputs_;
  std::vector<float> weights_;
};

struct Split {
  std::vector<float> images;
  std::vector<int64_t> labels;
};

Split whole_split(const std::string& split, const SampleOptions& options, int size) {
  ImageLoader loader(sample_dataset(split, options), {.size = size, .batch_size = 100, .train = false});
  Split all;
  for (auto& [images, labels] : loader) {
    const auto x = images.to_vector<float>();
    const auto y = labels.to_vector<int64_t>();
    all.images.insert(all.images.end(), x.begin(), x.end());
    all.labels.insert(all.labels.end(), y.begin(), y.end());
  }
  return all;
}

}  // namespace

TEST_CASE("the sample on disk is the one in memory, in ImageWoof's layout") {
  const TempFolder temp;
  const SampleOptions options{.pixels = 32, .train_per_class = 3, .val_per_class = 2};
  write_bytes(temp / "deep/sample.part/mine", text("x"));
  make_sample_dataset(temp / "deep/sample", options);
  CHECK(std::filesystem::is_regular_file(temp / "deep/sample/train/circle/circle_00000.JPEG"));
  // Nothing of its own is left beside it, and what was there is untouched.
  CHECK(std::filesystem::is_regular_file(temp / "deep/sample.part/mine"));
  const std::filesystem::directory_iterator beside(temp / "deep");
  CHECK(std::distance(begin(beside), end(beside)) == 2);
  using std::filesystem::perms;
  CHECK((std::filesystem::status(temp / "deep/sample").permissions() & perms::others_read) ==
        (std::filesystem::status(temp / "deep/sample.part").permissions() & perms::others_read));
  const auto [train, val] = ImageDataset::open_splits(temp / "deep/sample");
  CHECK(train.classes() == sample_classes());
  CHECK(std::is_sorted(sample_classes().begin(), sample_classes().end()));
  REQUIRE(train.size() == 30);
  REQUIRE(val.size() == 20);
  for (const ImageDataset& on_disk : {train, val}) {
    const ImageDataset in_memory = sample_dataset(on_disk.split(), options);
    std::set<std::string> different;
    for (int64_t i = 0; i < on_disk.size(); ++i) {
      CHECK(on_disk.name(i) == in_memory.name(i));
      CHECK(on_disk.label(i) == in_memory.label(i));
      CHECK(*on_disk.encoded(i) == *in_memory.encoded(i));
      const Image image = decode_image(*on_disk.encoded(i));
      CHECK((image.height == 32 && image.width == 32));
      different.emplace(image.pixels.begin(), image.pixels.end());
    }
    CHECK(int64_t(different.size()) == on_disk.size());
  }
}

TEST_CASE("two that make the same sample at once: one is refused and leaves nothing") {
  const TempFolder temp;
  const auto make = [&] {
    return error_of([&] {
      make_sample_dataset(temp / "sample", {.pixels = 16, .train_per_class = 2, .val_per_class = 1});
    });
  };
  auto other = std::async(std::launch::async, make);
  const bool here = make() == "(no error)", there = other.get() == "(no error)";
  CHECK(here != there);
  CHECK(ImageDataset::open(temp / "sample", "train").size() == 20);
  const std::filesystem::directory_iterator left(temp.path());
  CHECK(std::distance(begin(left), end(left)) == 1);
}

TEST_CASE("pictures depend on the seed, the split and the number alone") {
  const auto pixels = [](const std::string& split, int64_t label, int64_t number, uint64_t seed) {
    return draw_sample(split, label, number, {.seed = seed}).pixels;
  };
  CHECK(pixels("train", 2, 5, 1) == pixels("train", 2, 5, 1));
  CHECK(pixels("train", 2, 5, 1) != pixels("train", 2, 5, 2));
  CHECK(pixels("train", 2, 5, 1) != pixels("val", 2, 5, 1));
  CHECK(pixels("train", 2, 5, 1) != pixels("train", 2, 6, 1));
  // More pictures leave the first ones as they are.
  const auto few = sample_dataset("val", {.val_per_class = 1}),
             many = sample_dataset("val", {.val_per_class = 2});
  CHECK(*few.encoded(3) == *many.encoded(6));
}

TEST_CASE("what cannot be made is an error") {
  const TempFolder temp;
  CHECK_ERROR(make_sample_dataset(temp / std::string(250, 'x')), ": File name too long");
  CHECK_ERROR(make_sample_dataset(temp.path(), {}), "exists already: remove it or choose another folder");
  write_bytes(temp / "file", text("x"));
  CHECK_ERROR(make_sample_dataset(temp / "file/below", {}), "sample: ");
  CHECK_ERROR(sample_dataset("test"), "there is no split 'test'");
  CHECK_ERROR(sample_dataset("train", {.pixels = 8}), "pixels is 8");
  CHECK_ERROR(sample_dataset("train", {.train_per_class = 0}), "0 pictures per class");
  CHECK_ERROR(draw_sample("train", 10, 0), "there is no class 10");
}

TEST_CASE("a linear classifier on the pixels fails on the sample") {
  constexpr int size = 32;
  const SampleOptions options;
  const Split train = whole_split("train", options, size), val = whole_split("val", options, size);
  REQUIRE(train.labels.size() == 2000);
  const size_t inputs = size * size * 3;
  LinearClassifier model(inputs);
  for (uint64_t epoch = 0; epoch < 8; ++epoch)
    for (int64_t i : random_permutation(int64_t(train.labels.size()), epoch))
      model.step(&train.images[size_t(i) * inputs], train.labels[size_t(i)], 3e-4f);
  const double on_train = model.accuracy(train.images, train.labels),
               on_val = model.accuracy(val.images, val.labels);
  MESSAGE("linear classifier: training accuracy ", on_train, ", validation accuracy ", on_val);
  CHECK(on_train > 0.3);  // it does learn the pictures by heart
  CHECK(on_val < 0.3);
}
