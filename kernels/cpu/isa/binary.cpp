// Binary operations over a broadcast shape. Dimensions that both operands walk as one are merged first; then
// the innermost loop runs over vectors (each operand dense or one value), the others over its starts.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {
namespace {

struct Dim {
  int64_t size, a, b;  // a, b: strides
};
struct Walk {
  int ndim = 0;  // at least 1
  Dim dims[kMaxDims];
};

Walk merge(const Broadcast& shape) {
  Walk walk;
  for (size_t d = 0; d < size_t(shape.ndim); ++d) {
    const Dim dim = {shape.size[d], shape.a_stride[d], shape.b_stride[d]};
    if (dim.size == 1) continue;
    if (walk.ndim > 0) {
      Dim& before = walk.dims[walk.ndim - 1];
      if (before.a == dim.a * dim.size && before.b == dim.b * dim.size) {
        before = {before.size * dim.size, dim.a, dim.b};
        continue;
      }
    }
    walk.dims[walk.ndim++] = dim;
  }
  if (walk.ndim == 0) walk.dims[walk.ndim++] = {1, 1, 1};
  return walk;
}

/// One innermost stretch of n elements; the strides are 0, 1, or anything.
template <class F>
void stretch(F f, const Dim& dim, int64_t n, const float* a, const float* b, float* y) {
  if (dim.a == 1 && dim.b == 1) {
    each_vector(0, n, [=](auto at, int64_t i) { at.store(f(at.load(a + i), at.load(b + i)), y + i); });
  } else if (dim.a == 1 && dim.b == 0) {
    const Vec value(*b);
    each_vector(0, n, [=](auto at, int64_t i) { at.store(f(at.load(a + i), value), y + i); });
  } else if (dim.a == 0 && dim.b == 1) {
    const Vec value(*a);
    each_vector(0, n, [=](auto at, int64_t i) { at.store(f(value, at.load(b + i)), y + i); });
  } else if (dim.a == 0 && dim.b == 0) {
    const Vec value = f(Vec(*a), Vec(*b));
    each_vector(0, n, [=](auto at, int64_t i) { at.store(value, y + i); });
  } else {
    for (int64_t i = 0; i < n; ++i) f(Vec(a[i * dim.a]), Vec(b[i * dim.b])).store_first(y + i, 1);
  }
}

template <class F>
void run(F f, const Broadcast& shape, const float* a, const float* b, float* y) {
  const Walk walk = merge(shape);
  const Dim inner = walk.dims[walk.ndim - 1];
  int64_t outer = 1;
  for (int d = 0; d + 1 < walk.ndim; ++d) outer *= walk.dims[d].size;
  if (outer == 0 || inner.size == 0) return;
  // Tasks are some whole stretches, or parts of one where a stretch is long.
  const int64_t part = smaller(inner.size, kGrain), parts = ceil_div(inner.size, part);
  parallel_ranges(outer * parts, rows_per_task(part), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / parts, first = (task - row * parts) * part;
      int64_t rest = row, a_at = first * inner.a, b_at = first * inner.b;
      for (int d = walk.ndim - 2; d >= 0; --d) {
        const Dim& dim = walk.dims[d];
        const int64_t i = rest % dim.size;
        rest /= dim.size;
        a_at += i * dim.a;
        b_at += i * dim.b;
      }
      stretch(f, inner, smaller(part, inner.size - first), a + a_at, b + b_at, y + row * inner.size + first);
    }
  });
}

/// The larger (smaller) of two, NaN if either is.
WEFT_INLINE Vec maximum(Vec a, Vec b) { return select((a > b) | (a != a), a, b); }
WEFT_INLINE Vec minimum(Vec a, Vec b) { return select((a < b) | (a != a), a, b); }

}  // namespace

void binary(Binary op, const Broadcast& shape, const float* a, const float* b, float* y) {
  switch (op) {
    case Binary::add:
      return run([](Vec u, Vec v) { return u + v; }, shape, a, b, y);
    case Binary::sub:
      return run([](Vec u, Vec v) { return u - v; }, shape, a, b, y);
    case Binary::mul:
      return run([](Vec u, Vec v) { return u * v; }, shape, a, b, y);
    case Binary::div:
      return run([](Vec u, Vec v) { return u / v; }, shape, a, b, y);
    case Binary::maximum:
      return run([](Vec u, Vec v) { return maximum(u, v); }, shape, a, b, y);
    case Binary::minimum:
      return run([](Vec u, Vec v) { return minimum(u, v); }, shape, a, b, y);
    case Binary::equal:
      return run([](Vec u, Vec v) { return select(u == v, Vec(1.0f), Vec(0.0f)); }, shape, a, b, y);
  }
}

}  // namespace weft::kernels::WEFT_ISA
