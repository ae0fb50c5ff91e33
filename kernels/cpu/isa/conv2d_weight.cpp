// Weight gradient of the direct convolution: dw[oc][tap][ic] = sum over pixels of dy[pixel][oc] * x[pixel at
// tap][ic], in register tiles of some oc (broadcast) times some vectors of ic.
#include "weft/kernels/cpu/isa/conv2d_weight.h"

#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {

void outer_products(OuterTile t, int64_t rows, int64_t columns, float* dst, Ahead& ahead, bool pairs) {
  const int64_t dy_offset = t.dy_offset, x_offset = t.x_offset;
  int64_t pieces = 0;
  for (int64_t s = 0; s < t.segment_count; ++s) pieces += ceil_div(t.segments[s].count, kAheadPixels);
  for (int64_t c = 0; c < columns; c += kPanel) {
    const int vecs = int(smaller(kPanel, columns - c) / kWidth);
    t.x_offset = x_offset + c;
    for (int64_t r = 0; r < rows;) {
      const int count = next_rows(rows - r, kOuterRows);
      t.dy_offset = dy_offset + r;
      t.dst = dst + r * t.dst_pitch + c;
      ahead.next(pieces, t);
      outer_function(count, vecs, pairs)(t);
      r += count;
    }
  }
}

namespace {

/// The stretches of output rows [first, last) at which tap (kh, kw) lies inside; returns their number.
int64_t find_segments(const WeightPlan& plan, int64_t kh, int64_t kw, int64_t first, int64_t last,
                      const float* x, const float* dy, Segment* segments) {
  const Conv2dParams& p = plan.p;
  const TapRange range = tap_range(p.in_w, plan.out_w, p.stride_w, p.pad_w, p.dilation_w, kw);
  if (range.begin >= range.end) return 0;
  const int64_t x_step = p.stride_w * p.in_c;
  int64_t count = 0;
  int64_t n = first / plan.out_h, row = first - n * plan.out_h;
  for (int64_t q = first; q < last; ++q) {
    const int64_t in_row = row * p.stride_h + kh * p.dilation_h - p.pad_h;
    if (uint64_t(in_row) < uint64_t(p.in_h)) {
      const int64_t column = range.begin * p.stride_w + kw * p.dilation_w - p.pad_w;
      const Segment s = {x + ((n * p.in_h + in_row) * p.in_w + column) * p.in_c,
                         dy + (q * plan.out_w + range.begin) * p.out_c, range.end - range.begin};
      Segment& before = segments[count > 0 ? count - 1 : 0];
      if (count > 0 && before.x + before.count * x_step == s.x && before.dy + before.count * p.out_c == s.dy)
        before.count += s.count;
      else
        segments[count++] = s;
    }
    if (++row == plan.out_h) row = 0, ++n;
  }
  return count;
}

/// The input pixel in front of output row q of all images; at most the number of pixels.
int64_t first_input_pixel(const WeightPlan& plan, int64_t q) {
  const Conv2dParams& p = plan.p;
  const int64_t n = q / plan.out_h, row = smaller((q - n * plan.out_h) * p.stride_h, p.in_h);
  return (n * p.in_h + row) * p.in_w;
}

/// The pixels of a tile as pairs, side by side, for as long as a tap needs them.
class PairedPixels {
 public:
  PairedPixels(const WeightPlan& plan, int64_t rows, int64_t columns)
      : rows_(rows), columns_(columns), x_(most(plan) * pitch(columns)), dy_(most(plan) * pitch(rows)) {}

  /// In t are the segments of pixels; then there is one of pairs, and the offsets are 0.
  void pair(OuterTile& t) {
    if constexpr (kPairs) {
      one_.count =
          pair_pixels(t.segments, t.segment_count, &Segment::x, t.x_step, t.x_offset, columns_, x_.get());
      pair_pixels(t.segments, t.segment_count, &Segment::dy, t.dy_step, t.dy_offset, rows_, dy_.get());
      one_.x = x_.get(), one_.dy = dy_.get();
      t.segments = &one_, t.segment_count = 1;
      t.x_step = pitch(columns_), t.dy_step = pitch(rows_);
      t.x_offset = t.dy_offset = 0;
    }
  }

 private:
  /// Of one visit to the sums.
  static int64_t most(const WeightPlan& plan) {
    return plan.pairs ? ceil_div(plan.block * plan.out_w, 2) : 0;
  }
  static int64_t pitch(int64_t count) { return round_up(count, kWidth); }

  const int64_t rows_, columns_;
  const Scratch x_, dy_;
  Segment one_;
};

/// Sums of one part, one block of output and one of input channels, all taps.
void sum_direct(const WeightPlan& plan, const float* x, const float* dy, int64_t first, int64_t last,
                int64_t group, int64_t oc, int64_t ic, float* sums) {
  const Conv2dParams& p = plan.p;
  Segment segments[kMaxSegments];
  OuterTile t;
  t.segments = segments;
  t.x_step = p.stride_w * p.in_c;
  t.dy_step = p.out_c;
  t.x_offset = group * plan.in_c + ic;
  t.dy_offset = group * plan.out_c + oc;
  t.dst_pitch = plan.row_c;
  const int64_t rows = smaller(plan.oc_block, plan.out_c - oc),
                columns = smaller(plan.ic_block, plan.in_c - ic);
  PairedPixels paired(plan, rows, columns);
  for (int64_t row = first; row < last; row += plan.block) {
    t.accumulate = row > first;
    const int64_t next = smaller(last, row + plan.block), after = smaller(last, next + plan.block);
    Ahead ahead;
    const int64_t from = first_input_pixel(plan, next), to = first_input_pixel(plan, after);
    ahead.set_x(x + t.x_offset + from * p.in_c, p.in_c, to - from, columns);
    ahead.set_dy(dy + t.dy_offset + next * plan.out_w * p.out_c, p.out_c, (after - next) * plan.out_w, rows);
    for (int64_t tap = 0; tap < plan.taps; ++tap) {
      t.segment_count = find_segments(plan, tap / p.kernel_w, tap % p.kernel_w, row, next, x, dy, segments);
      if (t.segment_count == 0 && t.accumulate) continue;
      float* dst = sums + (group * plan.out_c + oc) * plan.row_c + tap * plan.in_c + ic;
      OuterTile tile = t;
      if (plan.pairs) paired.pair(tile);
      outer_products(tile, rows, columns, dst, ahead, plan.pairs);
    }
  }
}

/// dw = sum of the parts, in their order, without the padding of the rows.
void combine(const WeightPlan& plan, const float* partials, float* dw) {
  const int64_t columns = plan.taps * plan.in_c;
  parallel_for(plan.p.out_c, [&](int64_t oc) {
    const float* from = partials + oc * plan.row_c;
    float* to = dw + oc * columns;
    for (int64_t i = 0; i < columns; ++i) to[i] = from[i];
    for (int64_t part = 1; part < plan.parts; ++part) {
      from += plan.sums();
      for (int64_t i = 0; i < columns; ++i) to[i] += from[i];
    }
  });
}

}  // namespace

int64_t direct_weight_workspace(const Conv2dParams& p) {
  const WeightPlan plan(p);
  return plan.needs_partials() ? plan.parts * plan.sums() * int64_t(sizeof(float)) : 0;
}

void direct_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                            float* workspace) {
  const WeightPlan plan(p);
  const int64_t blocks = plan.oc_blocks * plan.ic_blocks;
  parallel_for(plan.parts * p.groups * blocks, [&](int64_t task) {
    const int64_t part = task / (p.groups * blocks), rest = task - part * p.groups * blocks;
    const int64_t group = rest / blocks, oc = (rest - group * blocks) / plan.ic_blocks * plan.oc_block,
                  ic = rest % plan.ic_blocks * plan.ic_block;
    const int64_t first = part * plan.rows / plan.parts, last = (part + 1) * plan.rows / plan.parts;
    float* sums = plan.needs_partials() ? workspace + part * plan.sums() : dw;
    if (plan.gather)
      sum_gathered(plan, x, dy, first, last, group, oc, sums);
    else
      sum_direct(plan, x, dy, first, last, group, oc, ic, sums);
  });
  if (plan.needs_partials()) combine(plan, workspace, dw);
}

}  // namespace weft::kernels::WEFT_ISA
