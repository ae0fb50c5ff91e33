// Weight gradient of the direct convolution: dw[oc][tap][ic] = sum over pixels of dy[pixel][oc] * x[pixel at
// tap][ic], in register tiles of some oc (broadcast) times some vectors of ic. Where ic does not fill whole
// vectors, the pixels under the filter are first copied side by side and count as one tap with kernel_h *
// kernel_w * ic channels.
#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/panels.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Sums of one task, which stay in the L2 cache, and its least output and input channels. One tap has few
// sums, so that all else of the task stays there too.
constexpr int64_t kBlockFloats = 40 << 10, kOneTapFloats = 16 << 10, kBlock = 64;
// Pixels between two visits to the sums, for several taps and for one.
constexpr int64_t kPixels = 64, kOneTapPixels = 128;
constexpr int64_t kMaxSegments = 64;
// Image parts are summed apart (always the same parts, whatever the number of threads) until there are this
// many tasks.
constexpr int64_t kEnoughTasks = 32, kLeastPixels = 512, kMaxPartialFloats = int64_t{8} << 20;

struct Plan {
  Conv2dParams p;
  int64_t out_h, out_w, in_c, out_c, taps;  // channels of one group
  bool gather;
  int64_t row_c;  // sums of an output channel: taps * in_c, to whole vectors if gathered
  int64_t rows;   // output rows of all images
  int64_t block;  // rows between two visits
  int64_t parts;  // parts of `rows` summed apart
  int64_t oc_block = kBlock, ic_block = kBlock, oc_blocks, ic_blocks;

  explicit Plan(const Conv2dParams& params) : p(params) {
    out_h = WEFT_ISA::out_h(p);
    out_w = WEFT_ISA::out_w(p);
    in_c = p.in_c / p.groups;
    out_c = p.out_c / p.groups;
    taps = p.kernel_h * p.kernel_w;
    gather = in_c % kWidth != 0;
    row_c = gather ? round_up(taps * in_c, kWidth) : taps * in_c;
    rows = p.batch * out_h;
    block = smaller(kMaxSegments, larger(1, (taps > 1 ? kPixels : kOneTapPixels) / larger(1, out_w)));
    if (gather) {
      ic_block = row_c;
    } else {
      // The larger the block, the fewer times x and dy are read.
      const int64_t limit = taps > 1 ? kBlockFloats : kOneTapFloats;
      while (oc_block < out_c && 2 * oc_block * ic_block * taps <= limit) {
        oc_block *= 2;
        if (ic_block < in_c && 2 * oc_block * ic_block * taps <= limit) ic_block *= 2;
      }
      while (ic_block < in_c && 2 * oc_block * ic_block * taps <= limit) ic_block *= 2;
    }
    oc_blocks = ceil_div(out_c, oc_block);
    ic_blocks = gather ? 1 : ceil_div(in_c, ic_block);
    const int64_t tasks = p.groups * oc_blocks * ic_blocks;
    parts = smaller(ceil_div(kEnoughTasks, tasks), rows * out_w / kLeastPixels);
    parts = larger(1, smaller(parts, kMaxPartialFloats / larger(1, sums())));
  }
  int64_t sums() const { return p.out_c * row_c; }
  bool needs_partials() const { return parts > 1 || gather; }
};

/// The parts of x and dy that the next visit to the sums will read. The tiles of this one ask for them piece
/// by piece: column after column of kAheadFloats, each over all pixels.
class Ahead {
 public:
  Ahead() = default;
  void set_x(const float* base, int64_t pitch, int64_t pixels, int64_t columns) {
    parts_[1] = {base, pitch, pixels, columns};
  }
  void set_dy(const float* base, int64_t pitch, int64_t pixels, int64_t columns) {
    parts_[0] = {base, pitch, pixels, columns};
  }
  /// Gives a tile the next `pieces` to ask for, or none.
  void next(int64_t pieces, OuterTile& t) {
    t.ahead = nullptr;
    while (part_ >= 0 && (parts_[part_].pixels <= 0 || column_ >= parts_[part_].columns))
      --part_, column_ = 0;
    if (part_ < 0) return;
    const Part& part = parts_[part_];
    t.ahead = part.base + pixel_ * part.pitch + column_;
    t.ahead_step = part.pitch;
    pixel_ += pieces;
    if (pixel_ >= part.pixels) pixel_ = 0, column_ += kAheadFloats;
  }

 private:
  struct Part {
    const float* base = nullptr;
    int64_t pitch = 0, pixels = 0, columns = 0;
  };
  Part parts_[2];
  int part_ = 1;
  int64_t pixel_ = 0, column_ = 0;
};

/// dst[0..rows)[0..columns) (+)= the outer products of the segments, in register tiles.
void outer_products(OuterTile t, int64_t rows, int64_t columns, float* dst, Ahead& ahead) {
  const int64_t dy_offset = t.dy_offset, x_offset = t.x_offset;
  int64_t pieces = 0;
  for (int64_t s = 0; s < t.segment_count; ++s) pieces += ceil_div(t.segments[s].count, kAheadPixels);
  for (int64_t c = 0; c < columns; c += kPanel) {
    const int vecs = int(smaller(kPanel, columns - c) / kWidth);
    t.x_offset = x_offset + c;
    for (int64_t r = 0; r < rows; r += kOuterRows) {
      t.dy_offset = dy_offset + r;
      t.dst = dst + r * t.dst_pitch + c;
      ahead.next(pieces, t);
      outer_function(int(smaller(kOuterRows, rows - r)), vecs)(t);
    }
  }
}

/// The output columns [begin, end) at which a tap lies inside the image.
struct Range {
  int64_t begin, end;
};
Range valid_columns(const Plan& plan, int64_t kw) {
  const Conv2dParams& p = plan.p;
  const int64_t shift = kw * p.dilation_w - p.pad_w;  // input column of output column 0
  const int64_t begin = shift >= 0 ? 0 : ceil_div(-shift, p.stride_w);
  const int64_t end = p.in_w - shift <= 0 ? 0 : ceil_div(p.in_w - shift, p.stride_w);
  return {begin, smaller(end, plan.out_w)};
}

/// The stretches of output rows [first, last) at which tap (kh, kw) lies inside; returns their number.
int64_t find_segments(const Plan& plan, int64_t kh, int64_t kw, int64_t first, int64_t last, const float* x,
                      const float* dy, Segment* segments) {
  const Conv2dParams& p = plan.p;
  const Range range = valid_columns(plan, kw);
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
int64_t first_input_pixel(const Plan& plan, int64_t q) {
  const Conv2dParams& p = plan.p;
  const int64_t n = q / plan.out_h, row = smaller((q - n * plan.out_h) * p.stride_h, p.in_h);
  return (n * p.in_h + row) * p.in_w;
}

/// Sums of one part, one block of output and one of input channels, all taps.
void sum_direct(const Plan& plan, const float* x, const float* dy, int64_t first, int64_t last, int64_t group,
                int64_t oc, int64_t ic, float* sums) {
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
      outer_products(t, rows, columns, sums + (group * plan.out_c + oc) * plan.row_c + tap * plan.in_c + ic,
                     ahead);
    }
  }
}

/// Copies the pixels under the filter at output row q side by side: [out_w][row_c], zeros for padding.
void gather_row(const Plan& plan, const float* x, int64_t q, int64_t group, float* out) {
  const Conv2dParams& p = plan.p;
  const int64_t n = q / plan.out_h, row = q - n * plan.out_h;
  // With no dilation and one group, a filter row is one stretch of memory.
  const float* x_end = x + p.batch * p.in_h * p.in_w * p.in_c;
  const bool stretch = p.dilation_w == 1 && p.groups == 1;
  for (int64_t j = 0; j < plan.out_w; ++j, out += plan.row_c) {
    float* o = out;
    const int64_t column = j * p.stride_w - p.pad_w;
    const bool inside = stretch && column >= 0 && column + p.kernel_w <= p.in_w;
    for (int64_t kh = 0; kh < p.kernel_h; ++kh) {
      const int64_t in_row = row * p.stride_h + kh * p.dilation_h - p.pad_h;
      const int64_t floats = p.kernel_w * plan.in_c;
      if (uint64_t(in_row) >= uint64_t(p.in_h)) {
        for (int64_t i = 0; i < floats; ++i) o[i] = 0;
        o += floats;
        continue;
      }
      const float* line = x + (n * p.in_h + in_row) * p.in_w * p.in_c + group * plan.in_c;
      if (inside) {
        const float* from = line + column * p.in_c;
        if (floats <= kWidth && from + kWidth <= x_end) {
          Vec::load(from).store(o);  // what is too much is overwritten next
          o += floats;
          continue;
        }
        for (int64_t i = 0; i < floats; ++i) o[i] = from[i];
        o += floats;
        continue;
      }
      for (int64_t kw = 0; kw < p.kernel_w; ++kw, o += plan.in_c) {
        const int64_t c = column + kw * p.dilation_w;
        const bool valid = uint64_t(c) < uint64_t(p.in_w);
        for (int64_t i = 0; i < plan.in_c; ++i) o[i] = valid ? line[c * p.in_c + i] : 0;
      }
    }
    for (; o < out + plan.row_c; ++o) *o = 0;
  }
}

void sum_gathered(const Plan& plan, const float* x, const float* dy, int64_t first, int64_t last,
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
      gather_row(plan, x, row + i, group, patches.get() + i * plan.out_w * plan.row_c);
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

/// dw = sum of the parts, in their order, without the padding of the rows.
void combine(const Plan& plan, const float* partials, float* dw) {
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
  const Plan plan(p);
  return plan.needs_partials() ? plan.parts * plan.sums() * int64_t(sizeof(float)) : 0;
}

void direct_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                            float* workspace) {
  const Plan plan(p);
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
