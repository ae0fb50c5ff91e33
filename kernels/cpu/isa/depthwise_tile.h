// What a depthwise convolution does with a run of destinations: a tile of a few walks along the channels. Of
// each number that it reads it makes only a few multiply-adds, so what counts is to read in order.
#pragma once

#include "weft/kernels/cpu/isa/depthwise_plan.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/strips.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {

/// Which channels of a source make a vector of wide ones: where a channel has several filters, lane l of
/// vector i is channel firsts[i] + lanes[i * kWidth + l], else they are the same.
class RepeatedChannels {
 public:
  RepeatedChannels(int64_t channels, int64_t multiplier)
      : channels_(channels),
        vectors_(multiplier > 1 ? ceil_div(channels * multiplier, kWidth) : 0),
        table_(vectors_ * (kWidth + 1)) {
    int32_t *lane = table(), *first = table() + vectors_ * kWidth;
    for (int64_t c = 0; c < vectors_ * kWidth; ++c) {
      if (c % kWidth == 0) first[c / kWidth] = int32_t(c / multiplier);
      lane[c] = int32_t(smaller(channels - 1, c / multiplier) - first[c / kWidth]);
    }
  }
  bool any() const { return vectors_ > 0; }
  int64_t channels() const { return channels_; }
  const int32_t* lanes() const { return table(); }
  const int32_t* firsts() const { return table() + vectors_ * kWidth; }

 private:
  int32_t* table() const { return reinterpret_cast<int32_t*>(table_.get()); }
  int64_t channels_, vectors_;
  Scratch table_;
};

/// Tiles of destinations one behind the other. Passed by value, so that the compiler sees that no store
/// changes it; steps in floats.
struct DepthwiseTile {
  int64_t tiles, wide;
  const float* src;  // of the first tap
  int64_t src_step, row_step, tap_step, rows, taps;
  int64_t dst, dst_step;                    // where the first destination is
  int64_t weight, weight_row, weight_step;  // where the weight of the first tap is
  bool far;                                 // all in all, more than a cache holds
  int64_t channels;                         // of the source, where they are repeated
  const int32_t *lanes, *firsts;            // as in RepeatedChannels
};

struct RepeatedLanes {
  int64_t count;
  const int32_t* lanes;
  WEFT_INLINE Vec load(const float* p) const {
    return permute(count < kWidth ? Vec::load_first(p, count) : Vec::load(p), lanes);
  }
};

/// Calls f(access, source, wide_access, dst) for the tiles and in each for the vectors of wide channels:
/// `access` loads the source's.
template <int kPixels, bool kRepeat, class F>
WEFT_INLINE void each_wide(DepthwiseTile t, F f) {
  for (; t.tiles > 0; --t.tiles, t.src += kPixels * t.src_step, t.dst += kPixels * t.dst_step)
    each_vector(0, t.wide, [&](auto wide_access, int64_t c) {
      if constexpr (kRepeat) {
        const int64_t first = t.firsts[c / kWidth];
        f(RepeatedLanes{smaller(kWidth, t.channels - first), t.lanes + c}, t.src + first, wide_access,
          t.dst + c, c);
      } else {
        f(wide_access, t.src + c, wide_access, t.dst + c, c);
      }
    });
}

/// The taps of a filter row: their number where the compiler shall know it, else 0; dense ones are neighbours
/// as the destinations are, which then share what is read; far ones are fetched ahead.
template <int taps, bool dense = false, bool far = false>
struct FilterRow {
  static constexpr bool kFar = far;
};

/// Calls f(tap, at) for the taps of a filter row, at(r) being what destination r reads there.
template <int kPixels, int kTaps, bool kDense, bool kFar, class Access, class F>
WEFT_INLINE void each_tap(FilterRow<kTaps, kDense, kFar>, const DepthwiseTile& t, const float* x,
                          Access access, F f) {
  if constexpr (kDense) {
    Vec row[kPixels + kTaps - 1];
#pragma GCC unroll 8
    for (int i = 0; i < kPixels + kTaps - 1; ++i) row[i] = access.load(x + i * t.src_step);
#pragma GCC unroll 4
    for (int b = 0; b < kTaps; ++b) f(b, [&](int r) { return row[r + b]; });
  } else {
#pragma GCC unroll 4
    for (int64_t b = 0; b < (kTaps > 0 ? kTaps : t.taps); ++b)
      f(b, [&](int r) { return access.load(x + b * t.tap_step + r * t.src_step); });
  }
}

/// Asks for the source's next row, and for the destinations after the next tile.
template <int kPixels>
WEFT_INLINE void fetch_ahead(const DepthwiseTile& t, const float* next_row, const float* dst) {
#pragma GCC unroll 4
  for (int r = 0; r < kPixels; ++r) {
    __builtin_prefetch(next_row + r * t.src_step);
    __builtin_prefetch(dst + (2 * kPixels + r) * t.dst_step, 1);
  }
}

/// dst = bias + sum over the taps of source * weight.
struct DepthwiseFill {
  const float *weights, *bias;
  float* dst;
  template <int kPixels, class Row, bool kRepeat>
  static void tiles(const DepthwiseFill f, const DepthwiseTile t) {
    each_wide<kPixels, kRepeat>(t, [&](auto access, const float* x, auto store, int64_t dst, int64_t c) {
      Vec acc[kPixels];
      const Vec start = f.bias ? store.load(f.bias + c) : Vec(0.0f);
#pragma GCC unroll 4
      for (int r = 0; r < kPixels; ++r) acc[r] = start;
      const float* w = f.weights + t.weight + c;
      for (int64_t a = t.rows; a > 0; --a, x += t.row_step, w += t.weight_row)
        each_tap<kPixels>(Row{}, t, x, access, [&](int64_t b, auto at) {
          const Vec weight = Vec::load(w + b * t.weight_step);
#pragma GCC unroll 4
          for (int r = 0; r < kPixels; ++r) acc[r] = fma(at(r), weight, acc[r]);
        });
      float* y = f.dst + dst;
      if constexpr (Row::kFar) fetch_ahead<kPixels>(t, x, y);
#pragma GCC unroll 4
      for (int r = 0; r < kPixels; ++r) store.store(acc[r], y + r * t.dst_step);
    });
  }
};

/// sums of each tap += source * dy.
struct DepthwiseSum {
  const float* dy;
  float* sums;
  template <int kPixels, class Row, bool kRepeat>
  static void tiles(const DepthwiseSum f, const DepthwiseTile t) {
    each_wide<kPixels, kRepeat>(t, [&](auto access, const float* x, auto load, int64_t dst, int64_t c) {
      const float* at_dy = f.dy + dst;
      Vec dy[kPixels];
#pragma GCC unroll 4
      for (int r = 0; r < kPixels; ++r) dy[r] = load.load(at_dy + r * t.dst_step);
      float* w = f.sums + t.weight + c;
      for (int64_t a = t.rows; a > 0; --a, x += t.row_step, w += t.weight_row)
        each_tap<kPixels>(Row{}, t, x, access, [&](int64_t b, auto at) {
          Vec acc = Vec::load(w + b * t.weight_step);
#pragma GCC unroll 4
          for (int r = 0; r < kPixels; ++r) acc = fma(at(r), dy[r], acc);
          acc.store(w + b * t.weight_step);
        });
      if constexpr (Row::kFar) fetch_ahead<kPixels>(t, x, at_dy);
    });
  }
};

template <class Work, bool kRepeat, int kPixels>
void depthwise_tiles(const Work& work, const DepthwiseTile& t) {
  const bool dense = t.taps == 3 && t.src_step == t.tap_step;
  if (dense && t.far)
    Work::template tiles<kPixels, FilterRow<3, true, true>, kRepeat>(work, t);
  else if (dense)
    Work::template tiles<kPixels, FilterRow<3, true>, kRepeat>(work, t);
  else if (t.taps == 3)
    Work::template tiles<kPixels, FilterRow<3>, kRepeat>(work, t);
  else if (t.taps == 2)
    Work::template tiles<kPixels, FilterRow<2>, kRepeat>(work, t);
  else
    Work::template tiles<kPixels, FilterRow<0>, kRepeat>(work, t);
}
template <class Work, bool kRepeat>
void depthwise_pixels(const Work& work, DepthwiseTile t, int64_t count) {
  const auto tiles_of = [&]<int kPixels>(Strip<kPixels>) {
    t.tiles = count / kPixels;
    if (t.tiles == 0) return;
    depthwise_tiles<Work, kRepeat, kPixels>(work, t);
    count -= t.tiles * kPixels;
    t.src += t.tiles * kPixels * t.src_step;
    t.dst += t.tiles * kPixels * t.dst_step;
  };
  tiles_of(Strip<kDepthwiseTile>{});
  tiles_of(Strip<2>{});
  tiles_of(Strip<1>{});
}

/// Does the work for a run that reads `src` and whose first destination is `dst` floats from the work's.
template <class Work>
void depthwise_run(const DepthwisePlan& plan, const DepthwiseRun& run, const Work& work, const float* src,
                   const RepeatedChannels& repeated, int64_t dst, int64_t dst_step) {
  constexpr int64_t kFar = 4 << 20;
  const int64_t pixel = repeated.channels();
  DepthwiseTile t;
  t.wide = plan.wide;
  t.src = src + run.src * pixel;
  t.src_step = run.src_step * pixel;
  t.row_step = plan.h.tap_step * plan.w.source * pixel;
  t.tap_step = plan.w.tap_step * pixel;
  t.rows = run.h.count;
  t.taps = run.w.count;
  t.dst = dst;
  t.dst_step = dst_step;
  t.weight_step = plan.pitch();
  t.weight_row = plan.w.taps * t.weight_step;
  t.weight = run.h.first * t.weight_row + run.w.first * t.weight_step;
  t.far = plan.batch * plan.h.count * plan.w.count * plan.wide > kFar;
  t.channels = pixel;
  t.lanes = repeated.lanes();
  t.firsts = repeated.firsts();
  if (repeated.any())
    depthwise_pixels<Work, true>(work, t, run.count);
  else
    depthwise_pixels<Work, false>(work, t, run.count);
}

}  // namespace weft::kernels::WEFT_ISA
