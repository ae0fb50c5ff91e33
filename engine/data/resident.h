// The loader for data sets that fit into the memory of a GPU.
#pragma once

#include <memory>

#include "weft/engine/data/batch_loader.h"

namespace weft::data {

/// Decodes all pictures once and keeps them on the GPU, which makes each batch from them in one kernel: only
/// a descriptor of each picture crosses over in a step.
///
/// Pictures are decoded when the loader is made: with `strict` a bad one is an Error then, otherwise there is
/// one warning then, and skipped() names them all from the start.
class ResidentLoader : public BatchLoader {
 public:
  /// Throws Error for options that make no sense or make no batch, for a file that cannot be read, and where
  /// no picture can be decoded.
  explicit ResidentLoader(ImageDataset dataset, LoaderOptions options = {}, BatchOptions gpu = {});
  ~ResidentLoader() override;

  /// Whether the decoded pictures are no larger than `resident_bytes`. If not, nothing was decoded, and no
  /// epoch can be begun.
  bool fits() const;
  /// What the pictures take of the GPU's memory; 0 where they don't fit.
  int64_t resident_bytes() const;

  int64_t batches() const override;
  const ImageDataset& dataset() const override;
  const LoaderOptions& options() const override;
  void begin_epoch(int64_t epoch, int64_t first_batch = 0) override;
  std::optional<DeviceBatch> next() override;
  int64_t position() const override;
  int64_t epoch() const override;
  std::vector<Skipped> skipped() const override;
  /// Nothing: it has warned when it was made.
  void tell_skipped() override {}
  int64_t next_size() override;
  bool fixed_buffers() const override;
  /// Each launch itself asks for the next batch, so this has only checks to make.
  void feed() override;

 private:
  struct State;
  std::shared_ptr<State> state_;  // graphs share it
};

}  // namespace weft::data
