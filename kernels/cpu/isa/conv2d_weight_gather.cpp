// The weight gradient where the input channels do not fill whole vectors: the pixels under the filter are
// first copied side by side and count as one tap with kernel_h * kernel_w * ic channels.
#include "weft/kernels/cpu/isa/conv2d_weight.h"
#include "weft/kernels/cpu/isa/scratch.h"

namespace weft::kernels::WEFT_ISA {
namespace {

constexpr int64_t kMaxFilterRows = 16;

/// The pixels under the filter at output position (q, j) side by side: out[0..row_c), zeros for padding.
void gather_pixel(const WeightPlan& plan, const float* x, int64_t q, int64_t j, float* out) {
  const Conv2dParams& p = plan.p;
  const int64_t n = q / plan.out_h, row = q - n * plan.out_h;
  float* o = out;
  for (int64_t kh = 0; kh < p.kernel_h; ++kh) {
    const int64_t in_row = row * p.stride_h + kh * p.dilation_h - p.pad_h;
    for (int64_t kw = 0; kw < p.kernel_w; ++kw, o += plan.in_c) {
      const int64_t column = j * p.stride_w - p.pad_w + kw * p.dilation_w;
      const bool inside = uint64_t(in_row) < uint64_t(p.in_h) && uint64_t(column) < uint64_t(p.in_w);
      const float* from = inside ? x + ((n * p.in_h + in_row) * p.in_w + column) * p.in_c : nullptr;
      for (int64_t i = 0; i < plan.in_c; ++i) o[i] = inside ? from[i] : 0;
    }
  }
  for (; o < out + plan.row_c; ++o) *o = 0;
}

/// gather_pixel for [0, out_w), one behind the other; writes up to kWidth floats too many. x is of this
/// group.
void gather_row(const WeightPlan& plan, const float* x, int64_t q, float* out) {
  const Conv2dParams& p = plan.p;
  const int64_t n = q / plan.out_h, row = q - n * plan.out_h, floats = p.kernel_w * plan.in_c;
  // With no dilation and one group a filter row is one stretch of memory, copied in whole vectors: what is
  // too much is overwritten next. Not at the edges, and not where the last vector would read beyond the end
  // of x.
  const float* rows[kMaxFilterRows];
  int64_t begin = plan.out_w, end = plan.out_w;
  if (p.dilation_w == 1 && p.groups == 1 && p.kernel_h <= kMaxFilterRows) {
    const int64_t first = row * p.stride_h - p.pad_h, last = first + (p.kernel_h - 1) * p.dilation_h;
    int64_t columns = p.in_w;  // that may be read
    if (((p.batch - 1 - n) * p.in_h + p.in_h - 1 - last) * p.in_w * p.in_c < kWidth)
      columns -= ceil_div(kWidth, p.in_c);
    begin = smaller(plan.out_w, ceil_div(p.pad_w, p.stride_w));
    end = columns + p.pad_w < p.kernel_w ? 0 : (columns + p.pad_w - p.kernel_w) / p.stride_w + 1;
    end = larger(begin, smaller(end, plan.out_w));
    for (int64_t kh = 0; kh < p.kernel_h; ++kh) {
      const int64_t in_row = first + kh * p.dilation_h;
      rows[kh] = uint64_t(in_row) < uint64_t(p.in_h) ? x + (n * p.in_h + in_row) * p.in_w * p.in_c : nullptr;
    }
  }
  for (int64_t j = 0; j < begin; ++j) gather_pixel(plan, x, q, j, out + j * plan.row_c);
  for (int64_t j = begin; j < end; ++j) {
    float* o = out + j * plan.row_c;
    const int64_t at = (j * p.stride_w - p.pad_w) * p.in_c;
    for (int64_t kh = 0; kh < p.kernel_h; ++kh, o += floats)
      for (int64_t i = 0; i < floats; i += kWidth)
        (rows[kh] ? Vec::load(rows[kh] + at + i) : Vec(0.0f)).store(o + i);
    if (plan.row_c > p.kernel_h * floats) Vec(0.0f).store(o);
  }
  for (int64_t j = end; j < plan.out_w; ++j) gather_pixel(plan, x, q, j, out + j * plan.row_c);
}

}  // namespace

void sum_gathered(const WeightPlan& plan, const float* x, const float* dy, int64_t first, int64_t last,
                  int64_t group, int64_t oc, float* sums) {
  const Conv2dParams& p = plan.p;
  const int64_t oc_count = smaller(plan.oc_block, plan.out_c - oc);
  const Scratch patches(plan.block * plan.out_w * plan.row_c + kWidth);
  OuterTile t;
  t.x_step = plan.row_c;
  t.dy_step = p.out_c;
  t.x_offset = 0;
  t.dy_offset = group * plan.out_c + oc;
  t.dst_pitch = plan.row_c;
  for (int64_t row = first; row < last; row += plan.block) {
    const int64_t rows = smaller(plan.block, last - row);
    for (int64_t i = 0; i < rows; ++i)
      gather_row(plan, x + group * plan.in_c, row + i, patches.get() + i * plan.out_w * plan.row_c);
    const Segment segment = {patches.get(), dy + row * plan.out_w * p.out_c, rows * plan.out_w};
    t.segments = &segment;
    t.segment_count = 1;
    t.accumulate = row > first;
    Ahead ahead;
    const int64_t next = smaller(plan.block, last - row - rows);
    ahead.set_dy(segment.dy + t.dy_offset + segment.count * p.out_c, p.out_c, next * plan.out_w, oc_count);
    outer_products(t, oc_count, plan.row_c, sums + (group * plan.out_c + oc) * plan.row_c, ahead);
  }
}

}  // namespace weft::kernels::WEFT_ISA
