// Batches: where a training loop takes its data from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

/// One batch, all of it on one device. The first dimension counts the samples.
struct DeviceBatch {
  Tensor x = {};        ///< what the module is given; of pictures [N, H, W, channels], normalised
  Tensor y = {};        ///< what the loss and the metrics are given; class labels are i64 [N]
  Tensor targets = {};  ///< what the loss is given in y's place, where defined: with mixup, f32 [N, classes]
};

/// A sample that was left out.
struct Skipped {
  std::string name = {}, reason = {};
};

/// Gives out the batches of an epoch in order. What an epoch holds is a function of its number and of a seed
/// alone, so it can be begun again at any batch with the same samples: that is what resuming lives on.
///
/// A captured step asks for its batch within the capture, and gets the fixed buffers then, while the epoch
/// does not move. From there on each batch takes feed() and one launch of the graph, in the place of next():
///
///     if (batches.next_size() == batches.batch_size()) batches.feed(), graph->launch();
///     else if (auto batch = batches.next()) ...  // a short batch, or the end of the epoch
class Batches {
 public:
  Batches() = default;
  virtual ~Batches() = default;
  Batches(const Batches&) = delete;
  Batches& operator=(const Batches&) = delete;

  /// Batches of a full epoch.
  virtual int64_t batches() const = 0;
  /// Samples in a full batch; the last one of an epoch may have fewer.
  virtual int64_t batch_size() const = 0;
  /// Starts `epoch` (counted from 0) at batch `first_batch`, dropping what is left of the current one.
  virtual void begin_epoch(int64_t epoch, int64_t first_batch = 0) = 0;
  /// The next batch of the epoch; nullopt at its end.
  virtual std::optional<DeviceBatch> next() = 0;
  /// Index in the epoch of the first batch not given out yet: what begin_epoch takes to go on from here.
  virtual int64_t position() const = 0;
  virtual int64_t epoch() const = 0;
  /// Samples left out so far, because they could not be read.
  virtual std::vector<Skipped> skipped() const { return {}; }

  /// Samples of the batch that comes next; 0 where next() will end the epoch, or throw.
  virtual int64_t next_size() = 0;
  /// Whether full batches are all in the same tensors, each overwriting the one before, and feed() works.
  /// Only then can steps be captured.
  virtual bool fixed_buffers() const { return false; }
  /// Prepares one launch of a graph in which next() was captured: the batch that comes next, which must be a
  /// full one.
  virtual void feed();
};

}  // namespace weft
