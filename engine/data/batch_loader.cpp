#include "weft/engine/data/batch_loader.h"

#include "weft/engine/data/device_batch.h"
#include "weft/engine/data/resident.h"
#include "weft/engine/data/uploading.h"
#include "weft/kernels/cuda/augment.h"

namespace weft::data {

void check_options(const BatchOptions& gpu) {
  check(gpu.dtype == DType::f32 || is_half(gpu.dtype), "loader: images of dtype ", gpu.dtype,
        ", but they can be f32, bf16 or f16");
  check(gpu.channels == 3 || gpu.channels == 4 || gpu.channels == 8, "loader: images of ", gpu.channels,
        " channels, but they can have 3, 4 or 8");
}

DeviceBatch empty_batch(const LoaderOptions& options, const BatchOptions& gpu, int64_t classes, int64_t n) {
  const int64_t side = options.size;
  DeviceBatch batch{Tensor::empty({n, side, side, gpu.channels}, gpu.dtype, Device::cuda),
                    Tensor::empty({n}, DType::i64, Device::cuda),
                    {}};
  if (gpu.mixup) batch.targets = Tensor::empty({n, classes}, DType::f32, Device::cuda);
  return batch;
}

std::vector<Mix> decide_mix(const BatchOptions& gpu, int64_t epoch, int64_t batch, int64_t n, int side) {
  std::vector<Mix> mix(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) mix[size_t(i)].partner = i;
  gpu.mixup(epoch, batch, mix);
  for (const Mix& m : mix) {
    check(m.partner >= 0 && m.partner < n, "mixup: partner ", m.partner, " is not among the ", n,
          " pictures of the batch");
    const auto& [top, left, height, width] = m.cut;
    check(height == 0 || gpu.cutmix, "mixup: a box is cut, which BatchOptions::cutmix must announce");
    check(height >= 0 && width >= 0 && top >= 0 && left >= 0 && height <= side - top && width <= side - left,
          "mixup: a box of ", width, " x ", height, " at (", left, ", ", top,
          ") does not lie in a picture of ", side, " x ", side);
  }
  return mix;
}

kernels::cuda::MixView view_of(const Mix& mix) { return {mix.weight, int32_t(mix.partner), mix.cut}; }

std::unique_ptr<BatchLoader> make_batches(const ImageDataset& dataset, const LoaderOptions& options,
                                          Device device, const BatchOptions& batch_options) {
  if (device == Device::cpu) return make_cpu_batches(dataset, options, batch_options);
  auto resident = std::make_unique<ResidentLoader>(dataset, options, batch_options);
  if (resident->fits()) return resident;
  return std::make_unique<UploadingLoader>(dataset, options, batch_options);
}

}  // namespace weft::data
