// What an index names, and sums back to where it came from.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/strips.h"

namespace weft::kernels::WEFT_ISA {

namespace {

/// What an index names at one place after the other of a run.
void gather_run(const GatherArgs& a, const int64_t* index, int64_t n, const float* from, int64_t step,
                float* to) {
  for (int64_t k = 0; k < n; ++k, from += step)
    to[k] = a.inside(index[k]) ? from[index[k] * a.inner] : __builtin_nanf("");
}

/// A slice.
void gather_slice(const GatherArgs& a, int64_t place, const float* from, float* to) {
  const bool known = a.inside(place);
  const float* const source = from + (known ? place * a.inner : 0);
  const Vec none(__builtin_nanf(""));
  each_vector(0, a.inner, [=](auto at, int64_t n) { at.store(known ? at.load(source + n) : none, to + n); });
}

}  // namespace

void gather(const GatherArgs& a, const float* x, float* y) {
  parallel_ranges(a.outer * a.count, rows_per_task(a.inner), [=](int64_t begin, int64_t end) {
    int64_t o = begin / a.count, i = begin - o * a.count;
    for (int64_t row = begin; row < end;) {
      const float* const from = x + o * a.size * a.inner;
      float* const to = y + row * a.inner;
      // Of single columns all rows up to the end of the outer one are a run, else each is one.
      const int64_t rows = a.inner == 1 ? smaller(end - row, a.count - i) : 1;
      if (a.for_each)
        gather_run(a, a.index + row * a.inner, rows * a.inner, from, a.inner == 1 ? 0 : 1, to);
      else if (a.inner == 1)
        gather_run(a, a.index + i, rows, from, 0, to);
      else
        gather_slice(a, a.index[i], from, to);
      row += rows, i += rows;
      if (i == a.count) i = 0, ++o;
    }
  });
}

namespace {

/// One of the outer ones, an index for each element: columns [begin, end).
void add_elements(const GatherArgs& a, int64_t o, int64_t begin, int64_t end, const float* src, float* y) {
  y += o * a.size * a.inner;
  for (int64_t i = 0; i < a.count; ++i) {
    const int64_t row = (o * a.count + i) * a.inner;
    for (int64_t n = begin; n < end; ++n) {
      const int64_t place = a.index[row + n];
      if (a.inside(place) && place != a.skipped) y[place * a.inner + n] += src[row + n];
    }
  }
}

/// One of the outer ones, of single columns.
void add_column(const GatherArgs& a, int64_t o, const float* src, float* y) {
  y += o * a.size, src += o * a.count;
  const int64_t* const index = a.index + (a.for_each ? o * a.count : 0);
  for (int64_t i = 0; i < a.count; ++i)
    if (a.inside(index[i]) && index[i] != a.skipped) y[index[i]] += src[i];
}

/// One of the outer ones, slices: those that go to [first, last).
void add_slices(const GatherArgs& a, int64_t o, int64_t first, int64_t last, const float* src, float* y) {
  for (int64_t i = 0; i < a.count; ++i) {
    const int64_t place = a.index[i];
    if (place < first || place >= last || place == a.skipped) continue;
    const float* const from = src + (o * a.count + i) * a.inner;
    float* const to = y + (o * a.size + place) * a.inner;
    each_vector(0, a.inner,
                [=](auto at, int64_t n) { at.store(at.load(to + n) + at.load(from + n), to + n); });
  }
}

}  // namespace

// No two tasks add to the same place, and each walks its index from the beginning, so that the sums have one
// order: tasks have different outer ones, and of large ones different columns, or ranges of places, for each
// of which the index is looked through.
void scatter_add(const GatherArgs& a, const float* src, float* y) {
  const int64_t work = a.count * a.inner;  // of an outer one
  if (work == 0) return;
  const int64_t width = a.inner == 1 ? 1 : a.for_each ? a.inner : a.size;
  const Parts parts(width, larger(1, work / larger(1, width)), 16);
  const int64_t grain = parts.count > 1 ? 1 : larger(1, kGrain / work);
  parallel_ranges(a.outer * parts.count, grain, [=](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t o = task / parts.count, part = task - o * parts.count;
      if (a.inner == 1)
        add_column(a, o, src, y);
      else
        (a.for_each ? add_elements : add_slices)(a, o, parts.begin(part), parts.begin(part + 1), src, y);
    }
  });
}

}  // namespace weft::kernels::WEFT_ISA
