// The loaders for a GPU: the pictures, order and labels of ImageLoader, in epochs and in captured steps.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "support/data_files.h"
#include "support/errors.h"
#include "weft/engine/data/resident.h"
#include "weft/engine/data/uploading.h"
#include "weft/engine/random.h"
#include "weft/kernels/cuda.h"

#if WEFT_EMULATED
#include "weft_emulator.h"
#endif

using namespace weft;
using namespace weft::data;
using namespace weft::test;
namespace cuda = weft::kernels::cuda;

namespace {

Content noise(int height, int width, int seed, bool jpeg) {
  Image image(height, width);
  uint32_t state = uint32_t(seed) * 2654435761u + 12345;
  for (uint8_t& v : image.pixels) v = uint8_t((state = state * 1664525u + 1013904223u) >> 24);
  return jpeg ? encode_jpeg(image, 95) : encode_png(image);
}

// n pictures of sides 10 to 30 in three classes, with a few others among them: pixels, thin ones, and a JPEG
// so large that it is decoded at a fraction of its size. Those of `bad` end in the middle.
ImageDataset pictures(int n, const std::vector<int>& bad = {}, const std::string& split = "train") {
  std::vector<ImageDataset::Sample> samples;
  for (int i = 0; i < n; ++i) {
    int height = 10 + i % 20, width = 10 + i * 7 % 20;
    if (i % 19 == 5) height = width = 1;
    if (i % 19 == 7) width = 100;
    if (i % 29 == 11) height = 150, width = 133;
    Content content = noise(height, width, i, i % 29 == 11 || i % 2 == 0);
    if (std::find(bad.begin(), bad.end(), i) != bad.end()) content.resize(content.size() / 2);
    samples.push_back(
        {{concat("train/", i % 3, "/", i), std::make_shared<const Content>(content), {}}, i % 3});
  }
  return ImageDataset(split, {"0", "1", "2"}, std::move(samples));
}

LoaderOptions quiet(LoaderOptions options) {
  options.warn = [](const std::string&) {};
  return options;
}

std::vector<float> floats(const Tensor& t) { return t.to(Device::cpu).to(DType::f32).to_vector<float>(); }
std::vector<int64_t> labels_of(const Tensor& t) { return t.to(Device::cpu).to_vector<int64_t>(); }

/// The largest of |a - b| - relative |b|; infinite where they don't match.
double distance(const std::vector<float>& a, const std::vector<float>& b, double relative = 0) {
  double most = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double d = std::abs(double(a[i]) - b[i]) - relative * std::abs(b[i]);
    most = d <= most ? most : d > most ? d : INFINITY;
  }
  return most;
}

/// The first three of `channels`; the others must be zero.
std::vector<float> three_of(const std::vector<float>& values, int channels) {
  std::vector<float> out;
  for (size_t i = 0; i < values.size(); ++i)
    if (int(i % size_t(channels)) < 3)
      out.push_back(values[i]);
    else
      CHECK(values[i] == 0);
  return out;
}

enum Kind { resident, uploading };
std::unique_ptr<BatchLoader> make(Kind kind, const ImageDataset& set, const LoaderOptions& options,
                                  const BatchOptions& gpu = {}) {
  if (kind == uploading) return std::make_unique<UploadingLoader>(set, options, gpu);
  auto loader = std::make_unique<ResidentLoader>(set, options, gpu);
  REQUIRE(loader->fits());
  return loader;
}

/// The rest of both loaders' epochs is the same.
void compare_rest(ImageLoader& cpu, BatchLoader& gpu, int channels = 3, double relative = 0) {
  while (const auto wanted = cpu.next()) {
    const int64_t n = wanted->labels.numel();
    CHECK(gpu.next_size() == n);
    const auto batch = gpu.next();
    REQUIRE(batch);
    CHECK(gpu.position() == cpu.position());
    CHECK(batch->x.device() == Device::cuda);
    CHECK(batch->x.shape() == Shape{n, wanted->images.size(1), wanted->images.size(2), channels});
    CHECK(labels_of(batch->y) == wanted->labels.to_vector<int64_t>());
    CHECK(distance(three_of(floats(batch->x), channels), wanted->images.to_vector<float>(), relative) < 1e-5);
    CHECK(!batch->targets.defined());
  }
  CHECK(gpu.next_size() == 0);
  CHECK(!gpu.next());
  CHECK(gpu.position() == cpu.position());
}

void compare(ImageLoader& cpu, BatchLoader& gpu, int64_t epoch, int64_t first = 0, int channels = 3,
             double relative = 0) {
  CAPTURE(epoch);
  CAPTURE(first);
  cpu.begin_epoch(epoch, first);
  gpu.begin_epoch(epoch, first);
  CHECK(gpu.epoch() == epoch);
  CHECK(gpu.position() == first);
  compare_rest(cpu, gpu, channels, relative);
}

}  // namespace

TEST_CASE("the same batches as ImageLoader's") {
  for (const Kind kind : {resident, uploading})
    for (const bool train : {true, false})
      for (const bool drop_last : {true, false}) {
        CAPTURE(kind);
        CAPTURE(train);
        CAPTURE(drop_last);
        const ImageDataset set = pictures(61);
        const LoaderOptions options{.size = 8,
                                    .batch_size = 7,
                                    .train = train,
                                    .resize = train ? 0 : 11,
                                    .seed = 3,
                                    .threads = 2,
                                    .drop_last = drop_last};
        ImageLoader cpu(set, options);
        const auto gpu = make(kind, set, options);
        CHECK(gpu->batches() == cpu.batches());
        CHECK(gpu->dataset().size() == 61);
        CHECK(gpu->options().size == 8);
        for (const int64_t epoch : {0, 1, 0}) compare(cpu, *gpu, epoch);
        for (const int64_t first : {1, 5, int(cpu.batches())}) compare(cpu, *gpu, 2, first);
        CHECK(gpu->skipped().empty());
      }
}

TEST_CASE("an epoch can be left in the middle") {
  const ImageDataset set = pictures(40);
  const LoaderOptions options{.size = 8, .batch_size = 6};
  for (const Kind kind : {resident, uploading}) {
    CAPTURE(kind);
    ImageLoader cpu(set, options);
    const auto gpu = make(kind, set, options);
    for (const int taken : {0, 1, 2, 5}) {
      gpu->begin_epoch(7);
      for (int i = 0; i < taken; ++i) REQUIRE(gpu->next());
      CHECK(gpu->position() == taken);
      compare(cpu, *gpu, 1, gpu->position());
    }
  }
}

TEST_CASE("batches stay what they are while others are made") {
#if WEFT_EMULATED
  const weft_emulator::Deferred deferred;
#endif
  const ImageDataset set = pictures(61);
  const LoaderOptions options{.size = 8, .batch_size = 5};
  for (const Kind kind : {resident, uploading}) {
    CAPTURE(kind);
    const auto gpu = make(kind, set, options);
    for (const int64_t epoch : {0, 1}) {
      std::vector<DeviceBatch> batches;
      gpu->begin_epoch(epoch);
      for (int i = 0; i < 3; ++i) REQUIRE(gpu->next());
      gpu->begin_epoch(epoch);
      while (const auto batch = gpu->next()) batches.push_back(*batch);
      ImageLoader cpu(set, options);
      cpu.begin_epoch(epoch);
      for (const DeviceBatch& batch : batches) {
        const auto wanted = cpu.next();
        REQUIRE(wanted);
        CHECK(labels_of(batch.y) == wanted->labels.to_vector<int64_t>());
        CHECK(distance(floats(batch.x), wanted->images.to_vector<float>()) < 1e-5);
      }
      CHECK(!cpu.next());
    }
  }
}

TEST_CASE("16-bit images, and more channels") {
  const ImageDataset set = pictures(20);
  const LoaderOptions options{.size = 9, .batch_size = 6};
  for (const Kind kind : {resident, uploading})
    for (const int channels : {3, 4, 8})
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        CAPTURE(kind);
        CAPTURE(channels);
        CAPTURE(dtype);
        ImageLoader cpu(set, options);
        const auto gpu = make(kind, set, options, {.dtype = dtype, .channels = channels});
        gpu->begin_epoch(0);
        CHECK(gpu->next()->x.dtype() == dtype);
        compare(cpu, *gpu, 1, 0, channels, dtype == DType::bf16 ? 0x1p-8 : dtype == DType::f16 ? 0x1p-11 : 0);
      }
}

TEST_CASE("pictures that cannot be decoded are left out as by ImageLoader") {
  // The batches of four of validation lose nothing, one, two, all and one.
  const std::vector<int> bad{5, 8, 10, 12, 13, 14, 15, 18};
  const ImageDataset set = pictures(19, bad);
  for (const Kind kind : {resident, uploading})
    for (const bool train : {true, false}) {
      CAPTURE(kind);
      CAPTURE(train);
      std::string warnings;
      LoaderOptions options{.size = 8, .batch_size = 4, .train = train, .smallest_batch = train ? 1 : 3};
      options.warn = [&](const std::string& text) { warnings += text; };
      ImageLoader cpu(set, quiet(options));
      const auto gpu = make(kind, set, options);
      for (const int64_t epoch : {0, 1}) compare(cpu, *gpu, epoch);
      CHECK(mentions(warnings,
                     "warning: 8 of 19 pictures of train cannot be decoded and are left out: train/2/5 ("));
      CHECK(warnings.find("warning") == warnings.rfind("warning"));
      REQUIRE(gpu->skipped().size() == 8);
      for (size_t i = 0; i < 8; ++i) {
        CHECK(gpu->skipped()[i].name == cpu.skipped()[i].name);
        CHECK(gpu->skipped()[i].reason == cpu.skipped()[i].reason);
      }
    }
  CHECK_ERROR(ResidentLoader(set, {.size = 8, .batch_size = 4, .strict = true}), "cannot be decoded");
  const ImageDataset none = pictures(3, {0, 1, 2});
  CHECK_ERROR(ResidentLoader(none, quiet({.size = 8, .batch_size = 2})),
              "none of the 3 pictures of train can be decoded");
}

TEST_CASE("an error comes in its place") {
  const ImageDataset set = pictures(12, {9});  // in the third batch
  UploadingLoader gpu(set, {.size = 8, .batch_size = 4, .train = false, .strict = true});
  gpu.begin_epoch(0);
  CHECK(gpu.next());
  CHECK(gpu.next());
  CHECK(gpu.next_size() == 0);
  CHECK_ERROR(gpu.next(), "cannot be decoded");
  CHECK_ERROR(gpu.next(), "no epoch is begun");
}

TEST_CASE("pictures too many for the memory they may take") {
  const ImageDataset set = pictures(40);
  const LoaderOptions options{.size = 8, .batch_size = 8};
  const int64_t bytes = ResidentLoader(set, options).resident_bytes();
  CHECK(bytes >= 40 * 3);
  CHECK(ResidentLoader(set, options, {.resident_bytes = bytes}).fits());
  ResidentLoader large(set, options, {.resident_bytes = bytes - 1});
  CHECK(!large.fits());
  CHECK(large.resident_bytes() == 0);
  CHECK_ERROR(large.begin_epoch(0), "do not fit");
  ImageLoader cpu(set, options);
  for (const int64_t limit : {bytes, bytes - 1}) {
    const auto gpu = make_batches(set, options, Device::cuda, {.resident_bytes = limit});
    CHECK((dynamic_cast<UploadingLoader*>(gpu.get()) != nullptr) == (limit < bytes));
    compare(cpu, *gpu, 0);
  }
}

namespace {

/// Weights and partners that depend on the batch.
void mix_by_batch(int64_t epoch, int64_t batch, std::span<Mix> mix) {
  const auto partner = random_permutation(int64_t(mix.size()), uint64_t(epoch * 100 + batch));
  for (size_t i = 0; i < mix.size(); ++i)
    mix[i] = {i % 3 == 1 ? 1.0f : 0.5f + 0.04f * float((batch + int64_t(i)) % 11), partner[i]};
}

/// The next batch of `cpu`, mixed. Images, then targets of three classes.
std::pair<std::vector<float>, std::vector<float>> mixed(ImageLoader& cpu) {
  const auto batch = cpu.next();
  REQUIRE(batch);
  const size_t n = size_t(batch->labels.numel());
  std::vector<Mix> mix(n);
  mix_by_batch(cpu.epoch(), cpu.position() - 1, mix);
  const auto x = batch->images.to_vector<float>();
  const auto labels = batch->labels.to_vector<int64_t>();
  const size_t pixels = x.size() / n;
  std::vector<float> images(x.size()), targets(n * 3);
  for (size_t i = 0; i < n; ++i) {
    const size_t partner = size_t(mix[i].partner);
    const float w = mix[i].weight;
    for (size_t p = 0; p < pixels; ++p)
      images[i * pixels + p] = w * x[i * pixels + p] + (1 - w) * x[partner * pixels + p];
    targets[i * 3 + size_t(labels[i])] += w;
    targets[i * 3 + size_t(labels[partner])] += 1 - w;
  }
  return {images, targets};
}

}  // namespace

TEST_CASE("mixup") {
  const ImageDataset set = pictures(30, {4});
  const LoaderOptions options = quiet({.size = 8, .batch_size = 8, .threads = 2});
  for (const Kind kind : {resident, uploading})
    for (const int channels : {3, 4}) {
      CAPTURE(kind);
      CAPTURE(channels);
      ImageLoader cpu(set, options);
      const auto gpu = make(kind, set, options, {.channels = channels, .mixup = mix_by_batch});
      cpu.begin_epoch(5);
      gpu->begin_epoch(5);
      for (int64_t b = 0; b < cpu.batches(); ++b) {
        const auto [images, targets] = mixed(cpu);
        const auto batch = gpu->next();
        REQUIRE(batch);
        CHECK(distance(three_of(floats(batch->x), channels), images) < 1e-5);
        CHECK(distance(floats(batch->targets), targets) < 1e-6);
      }
      const auto wrong =
          make(kind, set, options,
               {.mixup = [](int64_t, int64_t, std::span<Mix> mix) { mix[0].partner = int64_t(mix.size()); }});
      wrong->begin_epoch(0);
      CHECK_ERROR(wrong->next(), "partner 8");
    }
}

TEST_CASE("fixed buffers are the same tensors each time") {
  const ImageDataset set = pictures(20);
  const LoaderOptions options{.size = 8, .batch_size = 8};
  for (const Kind kind : {resident, uploading}) {
    CAPTURE(kind);
    ImageLoader cpu(set, options);
    const auto gpu = make(kind, set, options, {.fixed_buffers = true});
    gpu->begin_epoch(0);
    const auto first = gpu->next(), second = gpu->next(), last = gpu->next();
    CHECK(first->x.is(second->x));
    CHECK(first->y.is(second->y));
    CHECK(!first->x.is(last->x));
    CHECK(last->y.numel() == 4);
    compare(cpu, *gpu, 1);
  }
}

TEST_CASE("a captured step gets the batches of the epochs one by one") {
  const ImageDataset set = pictures(31, {17});
  const LoaderOptions options = quiet({.size = 8, .batch_size = 5, .train = true});
  for (const Kind kind : {resident, uploading}) {
    CAPTURE(kind);
    ImageLoader cpu(set, options);
    const auto gpu =
        make(kind, set, options, {.dtype = DType::bf16, .fixed_buffers = true, .mixup = mix_by_batch});
    const Tensor images = Tensor::zeros({5, 8, 8, 3}, DType::bf16, Device::cuda),
                 targets = Tensor::zeros({5, 3}, DType::f32, Device::cuda);
    gpu->begin_epoch(0);
    const auto graph = cuda::capture([&] {
      const auto batch = gpu->next();
      cuda::copy(images.raw(), batch->x.raw(), images.bytes());
      cuda::copy(targets.raw(), batch->targets.raw(), targets.bytes());
    });
    CHECK(gpu->position() == 0);
    int launches = 0, short_ones = 0;
    for (const int64_t epoch : {0, 1}) {
      cpu.begin_epoch(epoch);
      gpu->begin_epoch(epoch);
      while (const int64_t n = gpu->next_size()) {
        const auto [wanted_images, wanted_targets] = mixed(cpu);
        if (n == 5) {
          gpu->feed();
          graph->launch();
          ++launches;
          CHECK(distance(floats(images), wanted_images, 0x1p-8) < 1e-5);
          CHECK(distance(floats(targets), wanted_targets) < 1e-6);
        } else {
          CHECK_ERROR(gpu->feed(), "cannot be fed");
          const auto batch = gpu->next();
          ++short_ones;
          CHECK(distance(floats(batch->x), wanted_images, 0x1p-8) < 1e-5);
          CHECK(distance(floats(batch->targets), wanted_targets) < 1e-6);
        }
        CHECK(gpu->position() == cpu.position());
      }
      CHECK(!gpu->next());
      CHECK(!cpu.next());
    }
    CHECK(launches + short_ones == 14);
    CHECK(short_ones >= 2);
  }
}

TEST_CASE("a graph outlives its loader, and asks for what is not there") {
  const ImageDataset set = pictures(10);
  std::unique_ptr<cuda::Graph> graph;
  {
    ResidentLoader loader(set, {.size = 8, .batch_size = 5}, {.fixed_buffers = true});
    graph = cuda::capture([&] { loader.next(); });
    CHECK_ERROR(graph->launch(), "no epoch is begun");
    loader.begin_epoch(0);
    graph->launch();
  }
  graph->launch();
  CHECK_ERROR(graph->launch(), "next batch has 0 pictures");

  ResidentLoader plain(set, {.size = 8, .batch_size = 5});
  CHECK_ERROR(cuda::capture([&] { plain.next(); }), "fixed_buffers");
}

TEST_CASE("options that make no sense") {
  const ImageDataset set = pictures(5);
  for (const Kind kind : {resident, uploading}) {
    CAPTURE(kind);
    CHECK_ERROR(make(kind, set, {.size = 0}), "size is 0");
    CHECK_ERROR(make(kind, set, {.batch_size = 6, .drop_last = true}), "make no full batch");
    CHECK_ERROR(make(kind, set, {}, {.dtype = DType::i64}), "images of dtype i64");
    CHECK_ERROR(make(kind, set, {}, {.channels = 5}), "images of 5 channels");
    const auto loader = make(kind, set, {.size = 8, .batch_size = 2});
    CHECK_ERROR(loader->next(), "no epoch is begun");
    CHECK_ERROR(loader->begin_epoch(-1), "epoch is -1");
    CHECK_ERROR(loader->begin_epoch(0, 4), "first_batch is 4");
  }
}
