// PackedWeight: a weight that stays the same, as kernels read it.
#pragma once

#include <cstdint>
#include <mutex>

#include "weft/engine/tensor.h"
#include "weft/kernels/kernels.h"

namespace weft {

/// The weight of a convolution or a linear layer in the form that the CPU's kernels read, kept between
/// forward passes (Module::optimize_for_inference()). It is made anew where the weight was changed by an
/// optimizer, fill() or copy_from(), through whatever view, or where the geometry is another; a change
/// through data() goes unnoticed. Several threads may use one.
class PackedWeight {
 public:
  /// That form of a weight [OC, KH, KW, C / groups], for KernelTable::conv2d_forward_packed(); undefined
  /// where there is none, or none that is faster, and for what was computed under a tape.
  Tensor get(const kernels::Conv2dParams& p, const Tensor& weight);
  void release();

 private:
  struct Made {
    Tensor::Moment moment;
    const void* weight = nullptr;
    kernels::Conv2dParams params;
    bool operator==(const Made&) const = default;
  };
  std::mutex mutex_;
  Made made_;
  Tensor memory_;
};

}  // namespace weft
