// Convolution on padded copies of a few image rows (conv2d_few.cpp reads such, too), for filters of few
// channels: one group of at most kFewInputs input channels, and groups that would not fill a vector. A copy
// costs little beside the taps that read it, and has no edges. It holds units: a unit is one number, which
// every output channel takes, or, in groups, a vector that has for each output channel of a panel the number
// its group takes. So no lane ever meets a number of another group.
#pragma once

#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/conv2d_axes.h"

namespace weft::kernels::WEFT_ISA {

constexpr int64_t kFewInputs = 4;
// Floats of a copy: it stays in the cache nearest to the core, or in the next one where rows are long.
constexpr int64_t kCopyFloats = 12 << 10, kMostRows = 8;

/// Every destination pixel is the sum of h.taps * w.taps * depth units times their weights; tap steps are
/// positive.
struct RowPlan {
  int64_t batch = 1, groups = 1;
  int64_t depth = 1, width = 1;  // source and destination channels of a group
  Axis h, w;

  bool units_are_vectors() const { return groups > 1; }
  int64_t unit() const { return units_are_vectors() ? kWidth : 1; }
  int64_t channels() const { return groups * width; }  // of the destination
  // Destination channels that are computed together.
  int64_t panel() const { return units_are_vectors() ? kWidth : 2 * kWidth; }
  int64_t panels() const { return ceil_div(channels(), panel()); }
  int64_t inner() const { return h.taps * w.taps * depth; }
  int64_t weights() const { return inner() * round_up(channels(), kWidth); }
  // Neighbouring taps count as one run of units.
  int64_t runs() const { return w.tap_step == 1 ? 1 : w.taps; }
  int64_t run_units() const { return w.taps / runs() * depth; }

  // Copied source pixels of a row that serve `count` destination pixels, and floats between copied rows.
  int64_t columns(int64_t count) const { return (count - 1) * w.step + (w.taps - 1) * w.tap_step + 1; }
  int64_t pixel() const { return depth * unit(); }
  int64_t pitch() const { return columns(round_up(w.count, 8)) * pixel(); }
  // The same of rows.
  int64_t rows(int64_t count) const { return (count - 1) * h.step + (h.taps - 1) * h.tap_step + 1; }
  /// Where a destination row of image n begins, in floats.
  int64_t target(int64_t n, int64_t row) const {
    return ((n * h.dst + h.dst_first + row * h.dst_step) * w.dst + w.dst_first) * channels();
  }
  /// Destination rows that share a copy: `most`, or fewer where that takes more than so many floats.
  int64_t block(int64_t floats = kCopyFloats, int64_t most = kMostRows) const;
};

/// The forward pass as a plan.
RowPlan forward_rows(const Conv2dParams& p);

/// Calls run(plan, h, v) for each set of input positions that take the same taps, which h and v tell, as a
/// plan of the input gradient. F must be a lambda of the calling file.
template <class F>
void each_gradient_class(const Conv2dParams& p, F run) {
  RowPlan plan;
  plan.batch = p.batch;
  plan.groups = p.groups;
  plan.depth = p.out_c / p.groups;
  plan.width = p.in_c / p.groups;
  for (int64_t a = 0; a < smaller(p.stride_h, p.in_h); ++a)
    for (int64_t b = 0; b < smaller(p.stride_w, p.in_w); ++b) {
      ParityClass h = parity_class(a, p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h);
      ParityClass v = parity_class(b, p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w);
      if (h.axis.taps == 0 || v.axis.taps == 0) {
        // Positions that no tap reaches: empty sums, though of a row at least.
        h.axis.taps = h.axis.tap_step = 0;
        v.axis.tap_step = v.axis.taps = 1;
      } else {
        h = ascending(h);
        v = ascending(v);
      }
      plan.h = h.axis;
      plan.w = v.axis;
      run(plan, h, v);
    }
}

/// Copies what destination rows [row, row + count) of image n read, for the destination channels of a panel.
void copy_rows(const RowPlan& plan, const float* src, int64_t n, int64_t row, int64_t count, int64_t panel,
               float* out);

/// The weight gradient; conv2d_rows_weight.cpp.
int64_t rows_weight_workspace(const Conv2dParams& p);
void rows_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                          float* workspace);

}  // namespace weft::kernels::WEFT_ISA
