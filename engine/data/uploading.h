// The loader for data sets that do not fit into the memory of a GPU.
#pragma once

#include <memory>

#include "weft/engine/data/batch_loader.h"

namespace weft::data {

/// Takes the batches of an ImageLoader to the GPU, the next one while the present one is worked with.
class UploadingLoader : public BatchLoader {
 public:
  explicit UploadingLoader(ImageDataset dataset, LoaderOptions options = {}, BatchOptions gpu = {});
  ~UploadingLoader() override;

  int64_t batches() const override;
  const ImageDataset& dataset() const override;
  const LoaderOptions& options() const override;
  void begin_epoch(int64_t epoch, int64_t first_batch = 0) override;
  std::optional<DeviceBatch> next() override;
  int64_t position() const override;
  int64_t epoch() const override;
  std::vector<Skipped> skipped() const override;
  void tell_skipped() override;
  int64_t next_size() override;
  bool fixed_buffers() const override;
  void feed() override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weft::data
