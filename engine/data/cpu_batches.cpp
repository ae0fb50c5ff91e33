// BatchLoader on the CPU.
#include <algorithm>
#include <utility>

#include "weft/engine/data/device_batch.h"
#include "weft/kernels/parallel.h"

namespace weft::data {
namespace {

/// An ImageLoader; its batches stay on the CPU.
class CpuBatches : public BatchLoader {
 public:
  CpuBatches(const ImageDataset& dataset, const LoaderOptions& options, const BatchOptions& batch_options)
      : loader_(dataset, options), batch_options_(batch_options) {
    check(batch_options.dtype == DType::f32 && batch_options.channels == 3,
          "loader: on the CPU images are f32 of 3 channels, not ", batch_options.dtype, " of ",
          batch_options.channels);
  }

  int64_t batches() const override { return loader_.batches(); }
  const ImageDataset& dataset() const override { return loader_.dataset(); }
  const LoaderOptions& options() const override { return loader_.options(); }
  void begin_epoch(int64_t epoch, int64_t first_batch) override {
    ahead_.reset();
    ended_ = false;
    loader_.begin_epoch(epoch, first_batch);
  }
  std::optional<DeviceBatch> next() override {
    next_size();
    std::optional<Batch> batch = std::exchange(ahead_, std::nullopt);
    if (!batch) return std::nullopt;
    if (!batch_options_.mixup) return DeviceBatch{batch->images, batch->labels, {}};
    const std::vector<Mix> mix = decide_mix(batch_options_, loader_.epoch(), loader_.position() - 1,
                                            batch->images.size(0), loader_.options().size);
    return mixup(*batch, mix, int64_t(loader_.dataset().classes().size()));
  }
  int64_t position() const override { return loader_.position() - (ahead_ ? 1 : 0); }
  int64_t epoch() const override { return loader_.epoch(); }
  std::vector<Skipped> skipped() const override { return loader_.skipped(); }
  void tell_skipped() override { loader_.tell_skipped(); }
  int64_t next_size() override {
    if (!ahead_ && !ended_) ended_ = !(ahead_ = loader_.next());
    return ahead_ ? ahead_->images.size(0) : 0;
  }

 private:
  ImageLoader loader_;
  BatchOptions batch_options_;
  std::optional<Batch> ahead_;  // looked at, not given out
  bool ended_ = false;          // the epoch
};

/// out = a, and b in the box, for pictures of 3 channels.
void cut_box(const kernels::PixelBox& box, int64_t width, const float* a, const float* b, float* out,
             int64_t numel) {
  std::copy_n(a, numel, out);
  for (int64_t row = box.top; row < box.top + box.height; ++row) {
    const int64_t start = (row * width + box.left) * 3;
    std::copy_n(b + start, int64_t{box.width} * 3, out + start);
  }
}

}  // namespace

DeviceBatch mixup(const Batch& batch, std::span<const Mix> mix, int64_t classes) {
  const int64_t n = batch.images.size(0), pixels = batch.images.numel() / n;
  DeviceBatch out{Tensor::empty(batch.images.shape()), batch.labels, Tensor::zeros({n, classes})};
  const float* x = batch.images.data<float>();
  float* y = out.x.data<float>();
  kernels::parallel_for(n, [&](int64_t i) {
    const Mix& m = mix[size_t(i)];
    const float *a = x + i * pixels, *b = x + m.partner * pixels;
    if (m.cut.height > 0) {
      cut_box(m.cut, batch.images.size(2), a, b, y + i * pixels, pixels);
      return;
    }
    for (int64_t p = 0; p < pixels; ++p) y[i * pixels + p] = m.weight * a[p] + (1 - m.weight) * b[p];
  });
  const int64_t* label = batch.labels.data<int64_t>();
  float* target = out.targets.data<float>();
  for (int64_t i = 0; i < n; ++i) {
    const Mix& m = mix[size_t(i)];
    target[i * classes + label[i]] += m.weight;
    target[i * classes + label[m.partner]] += 1 - m.weight;
  }
  return out;
}

std::unique_ptr<BatchLoader> make_cpu_batches(const ImageDataset& dataset, const LoaderOptions& options,
                                              const BatchOptions& batch_options) {
  return std::make_unique<CpuBatches>(dataset, options, batch_options);
}

}  // namespace weft::data
