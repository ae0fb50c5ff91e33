// Reductions over the middle of [outer, reduce, inner]. Sums are taken over fixed stretches of the reduced
// dimension, whose results are then combined in order, so that they depend neither on the threads nor much on
// the length.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {
namespace {

struct Sum {
  static constexpr float start = 0;
  static WEFT_INLINE Vec combine(Vec a, Vec b) { return a + b; }
};
struct Max {
  static constexpr float start = -__builtin_inff();
  static WEFT_INLINE Vec combine(Vec a, Vec b) { return select(a != a, a, max(a, b)); }
};
struct Min {
  static constexpr float start = __builtin_inff();
  static WEFT_INLINE Vec combine(Vec a, Vec b) { return select(a != a, a, min(a, b)); }
};

template <class Op>
float across_lanes(Vec v) {
  return fold_lanes(v, [](Vec a, Vec b) { return Op::combine(a, b); });
}

// A sum's rounding errors grow with its length: so many vectors are summed before they join the total.
constexpr int64_t kGroup = 128;

/// A stretch of memory.
template <class Op>
float reduce_stretch(const float* x, int64_t n) {
  constexpr int kChains = 4;
  constexpr int64_t kStep = kChains * kWidth;
  Vec total[kChains];
#pragma GCC unroll 4
  for (int k = 0; k < kChains; ++k) total[k] = Vec(Op::start);
  int64_t i = 0;
  while (i + kStep <= n) {
    const int64_t end = smaller(n, i + kGroup * kStep);
    Vec acc[kChains];
#pragma GCC unroll 4
    for (int k = 0; k < kChains; ++k) acc[k] = Vec(Op::start);
    for (; i + kStep <= end; i += kStep)
#pragma GCC unroll 4
      for (int k = 0; k < kChains; ++k) acc[k] = Op::combine(acc[k], Vec::load(x + i + k * kWidth));
#pragma GCC unroll 4
    for (int k = 0; k < kChains; ++k) total[k] = Op::combine(total[k], acc[k]);
  }
  for (; i + kWidth <= n; i += kWidth) total[0] = Op::combine(total[0], Vec::load(x + i));
  if (i < n) total[1] = Op::combine(total[1], Vec::load_first(x + i, n - i, Op::start));
  return across_lanes<Op>(Op::combine(Op::combine(total[0], total[1]), Op::combine(total[2], total[3])));
}

/// y[c..) = reduction of `count` rows, over kVecs vectors of columns from c on.
template <class Op, int kVecs, class At>
WEFT_INLINE void reduce_columns(const float* x, int64_t count, int64_t inner, float* y, At at, int64_t c) {
  Vec total[kVecs];
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) total[v] = Vec(Op::start);
  for (int64_t first = 0; first < count; first += kGroup) {
    Vec acc[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) acc[v] = Vec(Op::start);
    for (int64_t r = first; r < smaller(count, first + kGroup); ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) acc[v] = Op::combine(acc[v], at.load(x + r * inner + c + v * kWidth));
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) total[v] = Op::combine(total[v], acc[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) at.store(total[v], y + c + v * kWidth);
}

/// y[c..end) = reduction of `count` rows of `inner` columns.
template <class Op>
void reduce_rows(const float* x, int64_t count, int64_t inner, float* y, int64_t c, int64_t end) {
  for (; c + 4 * kWidth <= end; c += 4 * kWidth) reduce_columns<Op, 4>(x, count, inner, y, Whole{}, c);
  for (; c + kWidth <= end; c += kWidth) reduce_columns<Op, 1>(x, count, inner, y, Whole{}, c);
  if (c < end) reduce_columns<Op, 1>(x, count, inner, y, Few{end - c}, c);
}

template <class Op>
void run(int64_t outer, int64_t count, int64_t inner, const float* x, float* y) {
  if (outer <= 0 || inner <= 0) return;
  const auto part_of = [&](const float* from, int64_t n, float* to) {
    if (inner == 1)
      *to = reduce_stretch<Op>(from, n);
    else
      reduce_rows<Op>(from, n, inner, to, 0, inner);
  };
  // Stretches: a task each where `outer` alone gives too few tasks.
  const int64_t part = larger(1, 4 * kGrain / inner), parts = ceil_div(count, part);
  if (part == 1 && parts > 1) {  // stretches of one row would be a copy of x: a task has columns
    const int64_t width = round_up(smaller(inner, larger(1024, 4 * kGrain / count)), 4 * kWidth),
                  tasks = ceil_div(inner, width);
    return parallel_for(outer * tasks, [&](int64_t task) {
      const int64_t o = task / tasks, first = (task - o * tasks) * width;
      reduce_rows<Op>(x + o * count * inner, count, inner, y + o * inner, first,
                      smaller(first + width, inner));
    });
  }
  if (parts <= 1) {
    parallel_ranges(outer, rows_per_task(count * inner), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) part_of(x + o * count * inner, count, y + o * inner);
    });
    return;
  }
  const Scratch partials(outer * parts * inner);
  parallel_for(outer * parts, [&](int64_t task) {
    const int64_t o = task / parts, first = (task - o * parts) * part;
    part_of(x + (o * count + first) * inner, smaller(part, count - first), partials.get() + task * inner);
  });
  for (int64_t o = 0; o < outer; ++o) part_of(partials.get() + o * parts * inner, parts, y + o * inner);
}

}  // namespace

void reduce(Reduce op, int64_t outer, int64_t count, int64_t inner, const float* x, float* y) {
  switch (op) {
    case Reduce::sum:
      return run<Sum>(outer, count, inner, x, y);
    case Reduce::max:
      return run<Max>(outer, count, inner, x, y);
    case Reduce::min:
      return run<Min>(outer, count, inner, x, y);
  }
}

}  // namespace weft::kernels::WEFT_ISA
