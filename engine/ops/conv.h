#pragma once

#include <cstdint>
#include <mutex>

#include "weft/engine/ops/channel_stats.h"
#include "weft/kernels/kernels.h"

namespace weft {

struct Conv2dOptions {
  int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
};

/// The weight of a convolution in the form that the CPU's kernels read, kept between forward passes. It is
/// made anew where the weight was changed by an optimizer, fill() or copy_from(), or where the geometry is
/// another; a change through data() goes unnoticed. Several threads may use one.
class PackedWeight {
 public:
  /// That form of a parameter; undefined where there is none, or none that is faster.
  template <class Table>
  Tensor get(const Table& kernels, const kernels::Conv2dParams& p, const Tensor& weight);
  void release();

 private:
  struct Made {
    const void* weight = nullptr;
    int64_t version = 0;
    kernels::Conv2dParams params;
    bool operator==(const Made&) const = default;
  };
  std::mutex mutex_;
  Made made_;
  Tensor memory_;
};

/// 2-d convolution (cross-correlation, as everywhere in the field): x [N, H, W, C], weight [OC, KH, KW, C /
/// groups], bias [OC] or undefined -> [N, OH, OW, OC], OH = (H + 2 padding - dilation (KH - 1) - 1) / stride
/// + 1. Where `stats` is given, the result's channel statistics are put there (constants to further ops) if
/// they come cheaper on the way; batch_norm computes those that are not there. With `packed` a parameter's
/// packed form is kept there, and its statistics are left to batch_norm.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Conv2dOptions& options = {}, ChannelStats* stats = nullptr,
              PackedWeight* packed = nullptr);

}  // namespace weft
