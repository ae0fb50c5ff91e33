// Mean and variance of each channel over rows that come in pieces, as batch norm needs them: of a whole
// array, or of what a convolution has just written and the cache still holds.
#pragma once

#include "weft/kernels/cpu/isa/scratch.h"

namespace weft::kernels::WEFT_ISA {

/// Where the mean and variance of each channel of an output go; null where they are not wanted.
struct ChannelStats {
  float *mean = nullptr, *var = nullptr;
};

/// The rows are cut into parts, each filled by one thread at a time, in an order of its own; combine() merges
/// the parts in their order, so that the result depends on neither threads nor time.
class StatsParts {
 public:
  StatsParts(int64_t parts, int64_t channels);

  /// Adds x: [rows, columns], rows `pitch` floats apart, as channels [channel, channel + columns) of a part.
  /// All columns of a part must be given the same rows in total. Pieces that the cache holds are best.
  void add(int64_t part, const float* x, int64_t rows, int64_t pitch, int64_t channel, int64_t columns);
  /// Mean and biased variance over all rows.
  void combine(float* mean, float* var) const;

 private:
  int64_t parts_, channels_, part_floats_;
  Scratch memory_;  // of each part: rows, mean, squares, [channels] each
};

}  // namespace weft::kernels::WEFT_ISA
