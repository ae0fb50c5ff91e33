// Batches out of tensors that are in memory.
#pragma once

#include <functional>
#include <memory>

#include "weft/engine/batches.h"

namespace weft {

struct TensorBatchesOptions {
  int64_t batch_size = 64;
  bool shuffle = true;          ///< a new order in every epoch; else that of the tensors
  bool drop_last = false;       ///< leave out an incomplete last batch
  uint64_t seed = 42;           ///< of the order
  Device device = Device::cpu;  ///< of the batches
  /// Changes a batch on the CPU before it is given out: noise, flips, mixup (which sets `targets`). Must be a
  /// function of its arguments, so that a resumed run has the same batches. Full batches must keep one shape
  /// and dtype.
  std::function<DeviceBatch(DeviceBatch batch, int64_t epoch, int64_t index)> transform = {};
};

/// Rows of x and the rows of y beside them. The order is a function of (seed, epoch) alone.
///
///     TensorBatches train(images, labels, {.batch_size = 32});
///
/// On a GPU full batches lie in fixed buffers, so that steps on them can be captured.
class TensorBatches : public Batches {
 public:
  using Options = TensorBatchesOptions;

  /// x [N, ...] and y [N, ...] of any dtype, on the CPU; their memory is shared, not copied. Throws Error
  /// where they have no or not the same number of rows, or the options make no batch.
  TensorBatches(const Tensor& x, const Tensor& y, const Options& options = {});
  ~TensorBatches() override;

  int64_t batches() const override;
  int64_t batch_size() const override;
  void begin_epoch(int64_t epoch, int64_t first_batch = 0) override;
  std::optional<DeviceBatch> next() override;
  int64_t position() const override;
  int64_t epoch() const override;
  int64_t next_size() override;
  bool fixed_buffers() const override;
  void feed() override;

 private:
  struct State;
  std::shared_ptr<State> state_;  // graphs share it
};

}  // namespace weft
