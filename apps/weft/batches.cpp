#include "weft/apps/weft/batches.h"

#include <utility>

#include "weft/apps/weft/mixup.h"
#include "weft/engine/error.h"

namespace weft::app {
namespace {

/// An ImageLoader; its batches stay on the CPU.
class CpuBatches : public data::BatchLoader {
 public:
  CpuBatches(const data::ImageDataset& dataset, const data::LoaderOptions& options,
             const data::BatchOptions& gpu)
      : loader_(dataset, options), mixup_(gpu.mixup) {
    check(gpu.dtype == DType::f32, "loader: on the CPU images are f32, not ", gpu.dtype);
  }

  int64_t batches() const override { return loader_.batches(); }
  const data::ImageDataset& dataset() const override { return loader_.dataset(); }
  const data::LoaderOptions& options() const override { return loader_.options(); }
  void begin_epoch(int64_t epoch, int64_t first_batch) override {
    ahead_.reset();
    ended_ = false;
    loader_.begin_epoch(epoch, first_batch);
  }
  std::optional<data::DeviceBatch> next() override {
    next_size();
    std::optional<data::Batch> batch = std::exchange(ahead_, std::nullopt);
    if (!batch) return std::nullopt;
    if (!mixup_) return data::DeviceBatch{batch->images, batch->labels, {}};
    std::vector<data::Mix> mix(size_t(batch->images.size(0)));
    mixup_(loader_.epoch(), loader_.position() - 1, mix);
    return mixup(*batch, mix, int64_t(loader_.dataset().classes().size()));
  }
  int64_t position() const override { return loader_.position() - (ahead_ ? 1 : 0); }
  int64_t epoch() const override { return loader_.epoch(); }
  std::vector<data::Skipped> skipped() const override { return loader_.skipped(); }
  int64_t next_size() override {
    if (!ahead_ && !ended_) ended_ = !(ahead_ = loader_.next());
    return ahead_ ? ahead_->images.size(0) : 0;
  }
  void feed() override { fail("feed: steps on the CPU are not captured"); }

 private:
  data::ImageLoader loader_;
  std::function<void(int64_t, int64_t, std::span<data::Mix>)> mixup_;
  std::optional<data::Batch> ahead_;  // looked at, not given out
  bool ended_ = false;                // the epoch
};

}  // namespace

std::unique_ptr<data::BatchLoader> make_batches(const data::ImageDataset& dataset,
                                                const data::LoaderOptions& options, Device device,
                                                const data::BatchOptions& gpu) {
  if (device == Device::cuda) return data::make_gpu_batches(dataset, options, gpu);
  return std::make_unique<CpuBatches>(dataset, options, gpu);
}

}  // namespace weft::app
