// Colour jitter, erasing and CutMix on the GPU (an emulated one, or a real one) against the CPU's.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "support/data_files.h"
#include "support/errors.h"
#include "weft/engine/data/mixing.h"
#include "weft/engine/data/resident.h"
#include "weft/engine/data/uploading.h"
#include "weft/kernels/cuda.h"

using namespace weft;
using namespace weft::data;
namespace cuda = weft::kernels::cuda;

namespace {

ImageDataset pictures(int n) {
  std::vector<ImageDataset::Sample> samples;
  for (int i = 0; i < n; ++i) {
    Image image(11 + i % 7, 17 - i % 5);
    uint32_t state = uint32_t(i) * 2654435761u + 77;
    for (uint8_t& v : image.pixels) v = uint8_t((state = state * 1664525u + 1013904223u) >> 24);
    const auto content = std::make_shared<const test::Content>(encode_png(image));
    samples.push_back({{std::to_string(i), content, {}}, i % 3});
  }
  return ImageDataset("train", {"0", "1", "2"}, std::move(samples));
}

LoaderOptions options_with(bool jitter, bool erase) {
  LoaderOptions o{.size = 9, .batch_size = 8, .seed = 5, .threads = 2};
  if (jitter) o.jitter = {.brightness = 0.4, .contrast = 0.6, .saturation = 0.5, .hue = 0.2};
  if (erase) o.erasing = {.p = 0.6, .fill = jitter ? ErasingFill::black : ErasingFill::mean};
  return o;
}

/// CutMix in every other batch, mixup in the rest.
void mix_by_batch(int64_t epoch, int64_t batch, std::span<Mix> mix) {
  const auto key = uint64_t(epoch * 1000 + batch);
  if (batch % 2 == 0)
    draw_cutmix(1, 9, key, mix);
  else
    draw_mixup(0.4, key, mix);
}

std::vector<float> floats(const Tensor& t) { return t.to(Device::cpu).to(DType::f32).to_vector<float>(); }

double distance(const Tensor& a, const Tensor& b, double relative = 0) {
  const std::vector<float> x = floats(a), y = floats(b);
  const size_t channels = size_t(a.size(-1)), kept = size_t(b.size(-1));
  REQUIRE(x.size() / channels == y.size() / kept);
  double most = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % channels;
    const double wanted = c < kept ? double(y[i / channels * kept + c]) : 0;
    const double d = std::abs(double(x[i]) - wanted) - relative * std::abs(wanted);
    most = d <= most ? most : d > most ? d : INFINITY;
  }
  return most;
}

std::unique_ptr<BatchLoader> loader_on_gpu(bool resident, const ImageDataset& set,
                                           const LoaderOptions& options, const BatchOptions& how) {
  if (resident) return std::make_unique<ResidentLoader>(set, options, how);
  return std::make_unique<UploadingLoader>(set, options, how);
}

}  // namespace

TEST_CASE("batches with jitter, erasing and CutMix are the CPU's") {
  const ImageDataset set = pictures(29);
  for (const bool resident : {true, false})
    for (const bool jitter : {true, false})
      for (const bool erase : {true, false})
        for (const bool mix : {true, false})
          for (const auto& form :
               {std::pair{DType::f32, 3}, {DType::bf16, 3}, {DType::f16, 4}, {DType::bf16, 8}}) {
            const DType dtype = form.first;
            const int channels = form.second;
            CAPTURE(resident);
            CAPTURE(jitter);
            CAPTURE(erase);
            CAPTURE(mix);
            CAPTURE(name_of(dtype));
            const LoaderOptions options = options_with(jitter, erase);
            BatchOptions here, there{.dtype = dtype, .channels = channels, .fixed_buffers = true};
            if (mix) here.mixup = there.mixup = mix_by_batch, here.cutmix = there.cutmix = true;
            const auto cpu = make_batches(set, options, Device::cpu, here);
            const auto gpu = loader_on_gpu(resident, set, options, there);
            cpu->begin_epoch(2), gpu->begin_epoch(2);
            int batches = 0;
            while (const auto wanted = cpu->next()) {
              const auto got = gpu->next();
              REQUIRE(got);
              const auto& [x, y, targets] = *got;
              const auto& [wanted_x, wanted_y, wanted_targets] = *wanted;
              const double rounding = dtype == DType::f32 ? 0 : dtype == DType::bf16 ? 0x1p-8 : 0x1p-11;
              CHECK(distance(x, wanted_x, rounding) < 4e-5);
              CHECK(y.to(Device::cpu).to_vector<int64_t>() == wanted_y.to_vector<int64_t>());
              CHECK(targets.defined() == mix);
              if (mix) CHECK(distance(targets, wanted_targets) < 1e-6);
              ++batches;
            }
            CHECK(!gpu->next());
            CHECK(batches == 4);
          }
}

TEST_CASE("batches that are padded and cropped are the CPU's") {
  const ImageDataset set = pictures(29);
  for (const PaddingMode mode : {PaddingMode::constant, PaddingMode::reflect})
    for (const bool colours : {true, false})
      for (const bool mix : {true, false})
        for (const bool resident : {true, false})
          for (const auto& [dtype, channels] : {std::pair{DType::f32, 3}, {DType::bf16, 8}}) {
            CAPTURE(int(mode));
            CAPTURE(colours);
            CAPTURE(mix);
            CAPTURE(resident);
            LoaderOptions options = options_with(colours, colours);
            options.pad = {.padding = 4, .mode = mode};
            BatchOptions here, there{.dtype = dtype, .channels = channels, .fixed_buffers = true};
            if (mix) here.mixup = there.mixup = mix_by_batch, here.cutmix = there.cutmix = true;
            const auto cpu = make_batches(set, options, Device::cpu, here);
            const auto gpu = loader_on_gpu(resident, set, options, there);
            cpu->begin_epoch(2), gpu->begin_epoch(2);
            int batches = 0;
            for (; const auto wanted = cpu->next(); ++batches)
              CHECK(distance(gpu->next()->x, wanted->x, dtype == DType::f32 ? 0 : 0x1p-8) < 4e-5);
            CHECK(batches == 4);
          }
}

TEST_CASE("a captured step gets retouched batches") {
  const ImageDataset set = pictures(16);
  LoaderOptions options = options_with(true, true);
  options.pad.padding = 2;
  BatchOptions gpu{.fixed_buffers = true, .mixup = mix_by_batch};
  gpu.cutmix = true;
  for (const bool resident : {true, false}) {
    CAPTURE(resident);
    const auto make = [&]() -> std::unique_ptr<BatchLoader> {
      if (resident) return std::make_unique<ResidentLoader>(set, options, gpu);
      return std::make_unique<UploadingLoader>(set, options, gpu);
    };
    const auto eager = make(), captured = make();
    Tensor seen = Tensor::zeros({8, 9, 9, 3}, DType::f32, Device::cuda);
    captured->begin_epoch(0);
    const auto graph = cuda::capture([&] {
      const auto [x, y, targets] = *captured->next();
      cuda::copy(seen.raw(), x.raw(), x.bytes());
    });
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
      eager->begin_epoch(epoch);
      captured->begin_epoch(epoch);
      while (captured->next_size() == 8) {
        captured->feed();
        graph->launch();
        const auto [x, y, targets] = *eager->next();
        CHECK(floats(seen) == floats(x));
      }
      CHECK(captured->next_size() == 0);
    }
  }
}

TEST_CASE("boxes that were not announced, or lie outside") {
  const ImageDataset set = pictures(8);
  for (const bool cpu : {true, false})
    for (const bool announced : {true, false}) {
      BatchOptions options{.mixup = [&](int64_t, int64_t, std::span<Mix> mix) {
        mix[3].cut = {2, 3, 4, announced ? 7 : 5};
      }};
      options.cutmix = announced;
      const auto loader =
          make_batches(set, options_with(false, false), cpu ? Device::cpu : Device::cuda, options);
      loader->begin_epoch(0);
      CHECK_ERROR(loader->next(), announced ? "a box of 7 x 4 at (3, 2) does not lie in a picture of 9 x 9"
                                            : "which BatchOptions::cutmix must announce");
    }
}
