// A pass of a depthwise convolution as sums over a lattice of taps, cut into tasks and runs.
#pragma once

#include "weft/kernels/cpu/isa/conv2d_axes.h"

namespace weft::kernels::WEFT_ISA {

/// Destinations that are computed together, at most.
constexpr int kDepthwiseTile = 4;

/// The taps of a destination that fall into the source, and where the first of them reads.
struct TapsInside {
  int64_t first, count, at;
  TapsInside(const Axis& a, int64_t destination) {
    const int64_t origin = destination * a.step + a.first;
    first = origin < 0 ? ceil_div(-origin, a.tap_step) : 0;
    const int64_t end = origin < a.source ? smaller(a.taps, (a.source - 1 - origin) / a.tap_step + 1) : 0;
    count = larger(0, end - first);
    at = origin + first * a.tap_step;
  }
};

/// Destinations that meet the same taps: their number, and in pixels where they and their sources are.
struct DepthwiseRun {
  int64_t count, src, src_step, dst, dst_step;
  TapsInside h, w;
};

struct DepthwisePlan {
  int64_t batch;
  int64_t multiplier;  // filters of a channel
  int64_t wide;        // channels times filters
  Axis h, w;           // every tap_step is positive

  /// Floats from tap to tap of packed weights. Were it a power of two, the taps of a channel would meet in a
  /// few lines of the cache.
  int64_t pitch() const { return round_up(wide, kWidth) + kWidth; }
  int64_t taps() const { return h.taps * w.taps; }

  // Most of a short row is edge: there, tiles go across the images.
  bool across_images() const { return w.count < 16 && batch > 1; }
  // A task is some rows of an image, or a row of some images: few enough that it is still in the cache when
  // its statistics are taken.
  int64_t images() const { return across_images() ? smaller(batch, kDepthwiseTile) : 1; }
  int64_t rows() const {
    constexpr int64_t kFloats = 32 << 10;
    return across_images() ? 1 : larger(1, smaller(h.count, kFloats / (w.count * wide)));
  }
  int64_t row_blocks() const { return ceil_div(h.count, rows()); }
  int64_t tasks() const { return ceil_div(batch, images()) * row_blocks(); }
  struct Task {
    int64_t n, images, row, rows;
  };
  Task task(int64_t i) const {
    const int64_t n = i / row_blocks() * images(), row = i % row_blocks() * rows();
    return {n, smaller(images(), batch - n), row, smaller(rows(), h.count - row)};
  }

  /// Calls f(run) for all destinations of a task.
  template <class F>
  void each_run(const Task& t, F f) const {
    for (int64_t i = t.row; i < t.row + t.rows; ++i) each_run(t.n, t.images, i, f);
  }

 private:
  template <class F>
  void each_run(int64_t n, int64_t images, int64_t row, F f) const {
    const TapsInside taps(h, row);
    const int64_t from = (n * h.source + taps.at) * w.source;
    const int64_t to = (n * h.dst + h.dst_first + row * h.dst_step) * w.dst + w.dst_first;
    // Destinations [begin, end) of the row meet all taps.
    const int64_t begin = smaller(w.count, w.first < 0 ? ceil_div(-w.first, w.step) : 0);
    const int64_t room = w.source - 1 - w.first - (w.taps - 1) * w.tap_step;
    const int64_t end = room < 0 ? 0 : smaller(w.count, room / w.step + 1);
    for (int64_t j = 0, columns; j < w.count; j += columns) {
      const bool inside = !across_images() && j >= begin && j < end;
      columns = inside ? end - j : 1;
      const TapsInside t(w, j);
      const int64_t src = from + t.at, dst = to + j * w.dst_step;
      if (across_images())
        f(DepthwiseRun{images, src, h.source * w.source, dst, h.dst * w.dst, taps, t});
      else
        f(DepthwiseRun{columns, src, w.step, dst, w.dst_step, taps, t});
    }
  }
};

}  // namespace weft::kernels::WEFT_ISA
