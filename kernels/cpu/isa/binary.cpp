// Operations on two operands, or on two and a condition, over a broadcast shape. Dimensions that all operands
// walk as one are merged first; then the innermost loop runs over vectors (each operand dense or one value),
// the others over its starts.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {
namespace {

struct Dim {
  int64_t size, a, b, c;  // a, b, c: strides
};
struct Walk {
  int ndim = 0;  // at least 1
  Dim dims[kMaxDims];
};

Walk merge(const Broadcast& shape) {
  Walk walk;
  for (size_t d = 0; d < size_t(shape.ndim); ++d) {
    const Dim dim = {shape.size[d], shape.a_stride[d], shape.b_stride[d], shape.c_stride[d]};
    if (dim.size == 1) continue;
    if (walk.ndim > 0) {
      Dim& before = walk.dims[walk.ndim - 1];
      if (before.a == dim.a * dim.size && before.b == dim.b * dim.size && before.c == dim.c * dim.size) {
        before = {before.size * dim.size, dim.a, dim.b, dim.c};
        continue;
      }
    }
    walk.dims[walk.ndim++] = dim;
  }
  if (walk.ndim == 0) walk.dims[walk.ndim++] = {1, 1, 1, 1};
  return walk;
}

/// Calls body(inner, n, a, b, c, y) for innermost stretches of n elements: their strides, and where they
/// begin in the operands and the output. F must be a lambda of the calling file.
template <class F>
void each_stretch(const Broadcast& shape, F body) {
  const Walk walk = merge(shape);
  const Dim inner = walk.dims[walk.ndim - 1];
  int64_t outer = 1;
  for (int d = 0; d + 1 < walk.ndim; ++d) outer *= walk.dims[d].size;
  if (outer == 0 || inner.size == 0) return;
  // Tasks are some whole stretches, or parts of one where a stretch is long.
  const int64_t part = smaller(inner.size, kGrain), parts = ceil_div(inner.size, part);
  parallel_ranges(outer * parts, rows_per_task(part), [&](int64_t begin, int64_t end) {
    // The place of the first row in the outer dimensions, then of one after the other.
    int64_t row = begin / parts, rest = row, a = 0, b = 0, c = 0, place[kMaxDims];
    for (int d = walk.ndim - 2; d >= 0; --d) {
      const Dim& dim = walk.dims[d];
      const int64_t i = place[d] = rest % dim.size;
      rest /= dim.size;
      a += i * dim.a, b += i * dim.b, c += i * dim.c;
    }
    int64_t first = (begin - row * parts) * part;
    for (int64_t task = begin; task < end; ++task) {
      body(inner, smaller(part, inner.size - first), a + first * inner.a, b + first * inner.b,
           c + first * inner.c, row * inner.size + first);
      first += part;
      if (first < inner.size) continue;
      first = 0;
      ++row;
      for (int d = walk.ndim - 2; d >= 0; --d) {
        const Dim& dim = walk.dims[d];
        a += dim.a, b += dim.b, c += dim.c;
        if (++place[d] < dim.size) break;
        place[d] = 0;
        a -= dim.size * dim.a, b -= dim.size * dim.b, c -= dim.size * dim.c;
      }
    }
  });
}

/// y = f(a, b) over one stretch; the strides are 0, 1, or anything.
template <class F, class Y>
void stretch(F f, const Dim& dim, int64_t n, const float* a, const float* b, Y* y) {
  if (dim.a == 1 && dim.b == 1) {
    each_vector(0, n, [=](auto at, int64_t i) { at.store(f(at.load(a + i), at.load(b + i)), y + i); });
  } else if (dim.a == 1 && dim.b == 0) {
    const Vec value(*b);
    each_vector(0, n, [=](auto at, int64_t i) { at.store(f(at.load(a + i), value), y + i); });
  } else if (dim.a == 0 && dim.b == 1) {
    const Vec value(*a);
    each_vector(0, n, [=](auto at, int64_t i) { at.store(f(value, at.load(b + i)), y + i); });
  } else if (dim.a == 0 && dim.b == 0) {
    const auto value = f(Vec(*a), Vec(*b));
    each_vector(0, n, [=](auto at, int64_t i) { at.store(value, y + i); });
  } else {
    for (int64_t i = 0; i < n; ++i) Few{1}.store(f(Vec(a[i * dim.a]), Vec(b[i * dim.b])), y + i);
  }
}

template <class F, class Y>
void run(F f, const Broadcast& shape, const float* a, const float* b, Y* y) {
  each_stretch(shape, [=](const Dim& inner, int64_t n, int64_t a_at, int64_t b_at, int64_t, int64_t y_at) {
    stretch(f, inner, n, a + a_at, b + b_at, y + y_at);
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

void compare(Compare op, const Broadcast& shape, const float* a, const float* b, uint8_t* y) {
  switch (op) {
    case Compare::eq:
      return run([](Vec u, Vec v) { return u == v; }, shape, a, b, y);
    case Compare::ne:
      return run([](Vec u, Vec v) { return u != v; }, shape, a, b, y);
    case Compare::lt:
      return run([](Vec u, Vec v) { return u < v; }, shape, a, b, y);
    case Compare::le:
      return run([](Vec u, Vec v) { return u <= v; }, shape, a, b, y);
  }
}

void select(const Broadcast& shape, const uint8_t* c, const float* a, const float* b, float* y) {
  each_stretch(shape, [=](const Dim& d, int64_t n, int64_t a_at, int64_t b_at, int64_t c_at, int64_t y_at) {
    const float *u = a + a_at, *v = b + b_at;
    const uint8_t* w = c + c_at;
    float* out = y + y_at;
    const bool each_a = d.a == 1, each_b = d.b == 1, each_c = d.c == 1;
    if (!(each_a || d.a == 0) || !(each_b || d.b == 0) || !(each_c || d.c == 0)) {
      for (int64_t i = 0; i < n; ++i) out[i] = w[i * d.c] ? u[i * d.a] : v[i * d.b];
      return;
    }
    const Vec one_a(*u), one_b(*v);
    const Mask one_c{int_lanes(*w ? -1 : 0)};
    each_vector(0, n, [=](auto at, int64_t i) {
      const Vec chosen = each_a ? at.load(u + i) : one_a, other = each_b ? at.load(v + i) : one_b;
      at.store(select(each_c ? at.load(w + i) : one_c, chosen, other), out + i);
    });
  });
}

}  // namespace weft::kernels::WEFT_ISA
