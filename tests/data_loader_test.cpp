// The loader: the same batches whatever the threads, resuming in the middle, and pictures that cannot be
// decoded.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "support/data_files.h"
#include "support/errors.h"
#include "weft/engine/data/loader.h"

using namespace weft;
using namespace weft::data;
using namespace weft::test;

namespace {

// n pictures of sides 10 to 30 in three classes; picture i is bad where `bad` says so.
ImageDataset pictures(int n, const std::vector<int>& bad = {}, const std::string& split = "train") {
  std::vector<ImageDataset::Sample> samples;
  for (int i = 0; i < n; ++i) {
    Content content = plain_png(10 + i % 20, 10 + i * 7 % 20, uint8_t(i));
    if (std::find(bad.begin(), bad.end(), i) != bad.end()) content.resize(content.size() / 2);
    samples.push_back(
        {{concat("train/", i % 3, "/", i), std::make_shared<const Content>(content), {}}, i % 3});
  }
  return ImageDataset(split, {"0", "1", "2"}, std::move(samples));
}

struct Flat {
  std::vector<float> images;
  std::vector<int64_t> labels, sizes;
  bool operator==(const Flat&) const = default;
};

Flat rest_of_epoch(ImageLoader& loader) {
  Flat flat;
  while (auto batch = loader.next()) {
    const auto x = batch->images.to_vector<float>();
    const auto y = batch->labels.to_vector<int64_t>();
    REQUIRE(batch->images.size(0) == batch->labels.size(0));
    flat.images.insert(flat.images.end(), x.begin(), x.end());
    flat.labels.insert(flat.labels.end(), y.begin(), y.end());
    flat.sizes.push_back(batch->labels.size(0));
  }
  return flat;
}

Flat epoch_of(ImageLoader& loader, int64_t epoch, int64_t first = 0) {
  loader.begin_epoch(epoch, first);
  return rest_of_epoch(loader);
}

constexpr int64_t kPixels = 8 * 8 * 3;

}  // namespace

TEST_CASE("batches have the shapes and dtypes promised") {
  ImageLoader loader(pictures(10), {.size = 8, .batch_size = 4});
  CHECK(loader.batches() == 3);
  int64_t total = 0, count = 0;
  for (auto& [images, labels] : loader) {
    CHECK(images.dtype() == DType::f32);
    CHECK(labels.dtype() == DType::i64);
    CHECK(images.shape() == Shape{count == 2 ? 2 : 4, 8, 8, 3});
    CHECK(labels.shape() == Shape{images.size(0)});
    CHECK(loader.position() == ++count);
    total += labels.size(0);
  }
  CHECK(total == 10);
  CHECK(loader.epoch() == 0);
  CHECK(loader.skipped().empty());
  for (auto& batch : loader) CHECK(batch.labels.defined());
  CHECK(loader.epoch() == 1);

  ImageLoader dropping(pictures(10), {.size = 8, .batch_size = 4, .drop_last = true});
  CHECK(dropping.batches() == 2);
  CHECK(epoch_of(dropping, 0).sizes == std::vector<int64_t>{4, 4});
}

TEST_CASE("the same pictures for any number of threads, any prefetch and any cache") {
  for (bool train : {true, false}) {
    CAPTURE(train);
    const ImageDataset set = pictures(60, {17, 40});
    const auto make = [&](int threads, int prefetch, int64_t cache) {
      return ImageLoader(set, {.size = 8,
                               .batch_size = 7,
                               .train = train,
                               .threads = threads,
                               .prefetch = prefetch,
                               .cache_bytes = cache,
                               .warn = [](const std::string&) {}});
    };
    ImageLoader one = make(1, 1, 0);
    const Flat first = epoch_of(one, 0), second = epoch_of(one, 1);
    CHECK(first.labels.size() == 58);
    for (int threads : {1, 2, 5}) {
      for (int64_t cache : {0, 20000, 1 << 30}) {
        ImageLoader other = make(threads, 1 + threads % 3, cache);
        CHECK(epoch_of(other, 0) == first);
        CHECK(epoch_of(other, 1) == second);
        CHECK(epoch_of(other, 0) == first);
        CHECK(other.skipped().size() == 2);
      }
    }
    CHECK((first == second) == !train);
  }
}

TEST_CASE("training shuffles by seed and epoch, validation keeps the order") {
  ImageLoader a(pictures(60), {.size = 8, .batch_size = 60, .seed = 1}),
      b(pictures(60), {.size = 8, .batch_size = 60, .seed = 2});
  const Flat a0 = epoch_of(a, 0), a1 = epoch_of(a, 1), b0 = epoch_of(b, 0);
  CHECK(a0.labels != a1.labels);
  CHECK(a0.labels != b0.labels);
  CHECK(epoch_of(a, 0) == a0);
  for (const Flat& f : {a0, a1, b0})
    for (int64_t c : {0, 1, 2}) CHECK(std::count(f.labels.begin(), f.labels.end(), c) == 20);

  ImageLoader val(pictures(9),
                  {.size = 8, .batch_size = 9, .train = false, .normalize = {{0, 0, 0}, {1, 1, 1}}});
  const Flat v = epoch_of(val, 0);
  for (int64_t i = 0; i < 9; ++i) {
    CHECK(v.labels[size_t(i)] == i % 3);
    // The middle pixel has the picture's one colour.
    CHECK(v.images[size_t(i * kPixels + (4 * 8 + 4) * 3)] * 255 == doctest::Approx(double(i)));
  }
}

TEST_CASE("an epoch goes on from any batch with the same pictures") {
  const ImageDataset set = pictures(45, {3, 30, 31});
  const LoaderOptions options{
      .size = 8, .batch_size = 4, .seed = 9, .threads = 2, .warn = [](const std::string&) {}};
  ImageLoader whole(set, options);
  const Flat all = epoch_of(whole, 3);
  for (int64_t stop = 0; stop <= whole.batches(); ++stop) {
    CAPTURE(stop);
    ImageLoader before(set, options);
    before.begin_epoch(3);
    Flat joined;
    for (int64_t b = 0; b < stop; ++b) {
      const auto batch = before.next();
      REQUIRE(batch);
      const auto x = batch->images.to_vector<float>();
      const auto y = batch->labels.to_vector<int64_t>();
      joined.images.insert(joined.images.end(), x.begin(), x.end());
      joined.labels.insert(joined.labels.end(), y.begin(), y.end());
    }
    CHECK(before.position() == stop);
    ImageLoader after(set, options);
    const Flat rest = epoch_of(after, 3, before.position());
    joined.images.insert(joined.images.end(), rest.images.begin(), rest.images.end());
    joined.labels.insert(joined.labels.end(), rest.labels.begin(), rest.labels.end());
    CHECK(joined.images == all.images);
    CHECK(joined.labels == all.labels);
  }
}

TEST_CASE("a loop can be left and goes on where it was; a new epoch drops the rest") {
  ImageLoader loader(pictures(20), {.size = 8, .batch_size = 4});
  int seen = 0;
  for (auto& batch : loader) {
    (void)batch;
    if (++seen == 2) break;
  }
  for (auto& batch : loader) (void)batch, ++seen;
  CHECK(seen == 5);
  CHECK(loader.epoch() == 0);
  loader.begin_epoch(4, 1);
  CHECK(loader.next());
  loader.begin_epoch(5);
  CHECK(rest_of_epoch(loader).sizes.size() == 5);
  CHECK_ERROR(loader.next(), "no epoch is begun");
  loader.begin_epoch(6, 2);
  ImageLoader moved = std::move(loader);
  CHECK(rest_of_epoch(moved).sizes.size() == 3);
}

TEST_CASE("pictures that cannot be decoded are left out, counted and named in one warning") {
  const TempFolder temp;
  const Content jpeg = encode_jpeg(Image(40, 40));
  Content corrupt = jpeg;
  std::fill(corrupt.begin() + int64_t(corrupt.size()) / 2, corrupt.end() - 2, uint8_t{0xff});
  Files files{{"train/a/1.JPEG", jpeg},
              {"train/a/cut.JPEG", {jpeg.begin(), jpeg.end() - 20}},
              {"train/a/corrupt.JPEG", corrupt},
              {"train/b/empty.JPEG", {}},
              {"train/b/text.JPEG", text("I am a text file.")},
              {"train/b/9.JPEG", jpeg}};
  write_files(temp / "set", files);
  const auto set = ImageDataset::open(temp / "set", "train");
  REQUIRE(set.size() == 6);

  std::vector<std::string> warnings;
  ImageLoader loader(
      set, {.size = 8, .batch_size = 2, .warn = [&](const std::string& w) { warnings.push_back(w); }});
  CHECK(loader.batches() == 3);
  CHECK(epoch_of(loader, 0).labels.size() == 2);
  CHECK(epoch_of(loader, 1).labels.size() == 2);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("4 of 6 pictures of train cannot be decoded and are left out: train/a/corrupt.JPEG "
                         "(jpeg: corrupt") != std::string::npos);
  CHECK(warnings[0].find("train/b/empty.JPEG (image: the file is empty), ...") != std::string::npos);
  const auto skipped = loader.skipped();
  REQUIRE(skipped.size() == 4);
  CHECK(skipped[3].name == "train/b/text.JPEG");
  CHECK(skipped[3].reason.find("neither JPEG nor PNG") != std::string::npos);

  for (int threads : {1, 3}) {
    ImageLoader strict(set, {.size = 8, .batch_size = 2, .train = false, .threads = threads, .strict = true});
    strict.begin_epoch(0);
    CHECK_ERROR(strict.next(), "train/a/corrupt.JPEG cannot be decoded: jpeg: corrupt or truncated");
    CHECK_ERROR(strict.next(), "no epoch is begun");
    strict.begin_epoch(0, 2);
    CHECK_ERROR(rest_of_epoch(strict), "train/b/empty.JPEG cannot be decoded");
  }
}

TEST_CASE("a batch without a picture is passed over, an epoch without one is an error") {
  int warnings = 0;
  const auto quiet = [&](const std::string&) { ++warnings; };
  ImageLoader loader(pictures(8, {2, 3, 6}), {.size = 8, .batch_size = 2, .train = false, .warn = quiet});
  loader.tell_skipped();
  CHECK(warnings == 0);
  CHECK(epoch_of(loader, 0).sizes == std::vector<int64_t>{2, 2, 1});
  CHECK(loader.batches() == 4);
  loader.begin_epoch(0);
  CHECK(loader.next());
  CHECK(loader.position() == 1);
  CHECK(loader.next());  // batch 1 is empty
  CHECK(loader.position() == 3);

  warnings = 0;
  ImageLoader broken_off(pictures(8, {2, 3, 6}), {.size = 8, .batch_size = 2, .train = false, .warn = quiet});
  broken_off.begin_epoch(0, 1);
  CHECK(broken_off.next());
  CHECK(warnings == 0);
  broken_off.tell_skipped();
  CHECK(warnings == 1);

  // Or without enough of them, but not for being short from the start.
  ImageLoader pairs(pictures(9, {2, 3, 6}),
                    {.size = 8, .batch_size = 2, .train = false, .smallest_batch = 2, .warn = quiet});
  for (int64_t epoch : {0, 1}) CHECK(epoch_of(pairs, epoch).sizes == std::vector<int64_t>{2, 2, 1});
  pairs.begin_epoch(2, 3);  // batch 3 has one of two left
  CHECK(pairs.next());
  CHECK(pairs.position() == 5);
  ImageLoader few(pictures(3, {0, 1}), {.size = 8, .batch_size = 3, .smallest_batch = 2, .warn = quiet});
  CHECK_ERROR(epoch_of(few, 0), "no batch of train has 2 pictures that can be decoded");
  CHECK_ERROR(ImageLoader(pictures(3, {}), {.smallest_batch = 0}), "smallest_batch is 0");

  ImageLoader none(pictures(3, {0, 1, 2}), {.size = 8, .batch_size = 2, .warn = quiet});
  CHECK_ERROR(epoch_of(none, 0), "none of the 3 pictures of train can be decoded");
}

TEST_CASE("a file that vanishes is an error, not a picture left out") {
  const TempFolder temp;
  write_files(temp / "set", {{"train/a/1.png", plain_png(9, 9, 1)}, {"train/a/2.png", plain_png(9, 9, 2)}});
  ImageLoader loader(ImageDataset::open(temp / "set", "train"), {.size = 8, .batch_size = 2});
  std::filesystem::remove(temp / "set/train/a/2.png");
  CHECK_ERROR(epoch_of(loader, 0), "cannot open");
}

TEST_CASE("a second epoch takes its pictures from the cache") {
  const TempFolder temp;
  write_files(temp / "set", {{"train/a/1.png", plain_png(9, 9, 1)}, {"train/a/2.png", plain_png(9, 9, 2)}});
  const auto set = ImageDataset::open(temp / "set", "train");
  ImageLoader plain(set, {.size = 8, .batch_size = 2}),
      caching(set, {.size = 8, .batch_size = 2, .cache_bytes = 2 * 9 * 9 * 3}),
      too_small(set, {.size = 8, .batch_size = 2, .cache_bytes = 2 * 9 * 9 * 3 - 1});
  const Flat second = epoch_of(plain, 1);
  for (ImageLoader* loader : {&caching, &too_small}) CHECK(epoch_of(*loader, 0).labels.size() == 2);
  std::filesystem::remove_all(temp / "set");
  CHECK(epoch_of(caching, 1) == second);
  CHECK_ERROR(epoch_of(too_small, 1), "cannot open");
}

TEST_CASE("reduced decoding gives nearly the same pictures, and only of large ones") {
  std::vector<ImageDataset::Sample> samples;
  Image image(512, 400);
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      for (int c = 0; c < 3; ++c) image.at(y, x)[c] = uint8_t(x / 4 + y / 5 + 20 * c + (x % 16 < 8 ? 3 : 0));
  samples.push_back({{"train/a/1.jpg", std::make_shared<const Content>(encode_jpeg(image, 95)), {}}, 0});
  const ImageDataset set("train", {"a"}, samples);
  for (bool train : {true, false}) {
    CAPTURE(train);
    // The smallest crop is 231 pixels high or wide, the one of validation 400: halves and quarters of these
    // are at least 2 * size for a size of 32; not even halves for a size of 101.
    for (int size : {32, 101}) {
      CAPTURE(size);
      LoaderOptions options{.size = size,
                            .batch_size = 1,
                            .train = train,
                            .reduced_decode = false,
                            .normalize = {{0, 0, 0}, {1, 1, 1}}};
      ImageLoader full(set, options);
      options.reduced_decode = true;
      ImageLoader reduced(set, options);
      options.cache_bytes = 1 << 20;
      ImageLoader caching(set, options);
      for (int64_t epoch = 0; epoch < 20; ++epoch) {
        const Flat a = epoch_of(full, epoch), b = epoch_of(reduced, epoch);
        CHECK(epoch_of(caching, epoch) == b);
        REQUIRE(a.images.size() == b.images.size());
        double worst = 0;
        for (size_t i = 0; i < a.images.size(); ++i)
          worst = std::max(worst, std::abs(double(a.images[i]) - b.images[i]));
        CHECK(worst < 0.03);
        CHECK((worst > 0) == (size == 32));
      }
    }
  }
}

TEST_CASE("options that make no sense are errors") {
  const ImageDataset set = pictures(5);
  CHECK_ERROR(ImageLoader(set, {.size = 0}), "size is 0");
  CHECK_ERROR(ImageLoader(set, {.batch_size = 0}), "batch_size is 0");
  CHECK_ERROR(ImageLoader(set, {.threads = 0}), "threads is 0");
  CHECK_ERROR(ImageLoader(set, {.prefetch = 0}), "prefetch is 0");
  CHECK_ERROR(ImageLoader(set, {.min_scale = 1.5}), "min_scale is 1.5");
  CHECK_ERROR(ImageLoader(set, {.size = 128, .resize = 64}),
              "resize is 64, but must be at least the size 128");
  CHECK_ERROR(ImageLoader(set, {.normalize = {{0, 0, 0}, {1, 0, 1}}}), "normalize.std is 0");
  CHECK_ERROR(ImageLoader(set, {.batch_size = 6, .drop_last = true}), "5 pictures make no full batch of 6");
  CHECK_ERROR(ImageLoader(ImageDataset{}, {}), "there are no pictures");
  ImageLoader loader(set, {.size = 8, .batch_size = 2});
  CHECK_ERROR(loader.begin_epoch(-1), "epoch is -1");
  CHECK_ERROR(loader.begin_epoch(0, 4), "first_batch is 4, but an epoch has 3");
}
