// What follows a convolution and is done piece by piece, while the cache holds what was just written.
#pragma once

#include "weft/kernels/cpu/isa/channel_stats.h"
#include "weft/kernels/cpu/isa/kernels.h"

namespace weft::kernels::WEFT_ISA {

/// Nothing, the output's statistics, or a batch norm in its place.
struct Epilogue {
  ChannelStats stats = {};
  const BatchNormArgs<float>* norm = nullptr;  // its x is not looked at
};

/// The epilogue of y: [rows, channels], whose pieces come from several threads. The statistics are taken over
/// `parts` (channel_stats.h); with none there are no pieces, and finish() does all.
class EpiloguePieces {
 public:
  EpiloguePieces(const Epilogue& e, int64_t parts, int64_t rows, int64_t channels, float* y);

  /// Rows [row, row + rows) of channels [channel, channel + columns), in part `part` of the statistics.
  void add(int64_t part, int64_t row, int64_t rows, int64_t channel, int64_t columns);
  void finish();

 private:
  Epilogue epilogue_;
  BatchNormArgs<float> norm_;
  bool in_pieces_;
  int64_t rows_, channels_;
  float* y_;
  StatsParts stats_;
};

}  // namespace weft::kernels::WEFT_ISA
