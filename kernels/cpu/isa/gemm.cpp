// Matrix multiply as a lattice of one tap: the rows of a are its pixels, b is packed into panels.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/lattice.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/thin.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Depth that one packing task takes; a multiple of 16 keeps each part of a panel aligned.
constexpr int64_t kPackDepth = 256;
constexpr int64_t kManyProducts = 16;
// Multiply-adds of the small products that a task takes together, and of those that take all threads.
constexpr int64_t kSmallWork = 1 << 14, kLargeProduct = 1 << 18, kLargeThin = 1 << 16;
// Columns of c, and depth, for each row of c that make it worth computing its transpose.
constexpr int64_t kFewRows = 4;
// Least sizes of a product of pairs.
constexpr int64_t kLeastPairDepth = 32, kLeastPairColumns = 32;

/// Elements of the depth, floats or pairs of bf16.
int64_t elements(const GemmParams& p) { return p.bf16 ? ceil_div(p.k, 2) : p.k; }

/// op(b): [k, n] into panels.
void pack_b(const GemmParams& p, const float* b, float* panels) {
  const int64_t parts = ceil_div(p.k, kPackDepth);
  parallel_for(panel_count(p.n) * parts, [&](int64_t task) {
    const int64_t panel = task / parts, k = (task - panel * parts) * kPackDepth;
    const int64_t columns = panel_columns(p.n, panel), depth = smaller(kPackDepth, p.k - k);
    float* dst = panels + panel_offset(elements(p), panel) + (p.bf16 ? k / 2 : k) * round_up(columns, kWidth);
    const int64_t column = panel * kPanel;
    if (p.transpose_b)
      pack_panel(b + column * p.ldb + k, depth, 1, columns, p.ldb, dst, p.bf16);
    else
      pack_panel(b + k * p.ldb + column, depth, p.ldb, columns, 1, dst, p.bf16);
  });
}

/// The first `count` columns of a, which is stored as [k, m], as rows of pairs.
void transpose_pairs(const GemmParams& p, const float* a, int64_t count, float* rows, int64_t pitch) {
  if constexpr (kPairs) {
    const int64_t columns = round_up(count, kWidth);
    const Scratch pairs(kPackDepth / 2 * columns);
    for (int64_t k = 0; k < p.k; k += kPackDepth) {
      const int64_t depth = smaller(kPackDepth, p.k - k);
      pack_pair_panel(a + k * p.lda, depth, p.lda, count, 1, pairs.get());
      transpose(pairs.get(), columns, count, ceil_div(depth, 2), rows + k / 2, pitch);
    }
  }
}

/// a as stored is [k, m]: its transpose, rows `pitch` elements apart.
void transpose_a(const GemmParams& p, const float* a, float* rows, int64_t pitch) {
  constexpr int64_t kRows = 64;
  parallel_for(ceil_div(p.m, kRows), [&](int64_t task) {
    const int64_t r = task * kRows, count = smaller(kRows, p.m - r);
    if (p.bf16)
      transpose_pairs(p, a + r, count, rows + r * pitch, pitch);
    else
      transpose(a + r, p.lda, count, p.k, rows + r * pitch, pitch);
  });
}

/// Above the diagonal, what the panels have left out.
void mirror(const GemmParams& p, float* c) {
  parallel_for(panel_count(p.n) - 1, [&](int64_t i) {
    const int64_t row = (i + 1) * kPanel;
    transpose(c + row * p.ldc, p.ldc, row, smaller(kPanel, p.n - row), c + row, p.ldc);
  });
}

void multiply(const GemmParams& p, const float* a, int64_t lda, const float* panels, float* c) {
  Lattice t;
  t.depth = elements(p);
  t.pairs = p.bf16;
  t.plain_depth = p.bf16 && !p.transpose_a ? p.k : 0;
  t.width = p.n;
  t.w.count = t.w.source = t.w.dst = p.m;
  t.src_pitch = lda;
  t.dst_pitch = p.ldc;
  t.src = a;
  t.dst = c;
  t.panels = panels;
  t.accumulate = p.accumulate;
  t.lower = p.symmetric;
  run_lattice(t);
  if (p.symmetric) mirror(p, c);
}

void clear(const GemmParams& p, float* c) {
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) c[i * p.ldc + j] = 0;
}

/// Calls f(i) for the products of a batch: large ones one after the other, each on all threads; of small ones
/// each thread takes some.
template <class F>
void each_product(const GemmParams& p, int64_t large, F f) {
  const int64_t work = p.m * p.n * p.k;
  if (p.batch < kManyProducts && work > large)
    for (int64_t i = 0; i < p.batch; ++i) f(i);
  else
    parallel_ranges(p.batch, 1 + kSmallWork / work, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i);
    });
}

/// By the register tile.
void multiply_packed(const GemmParams& p, const float* a, const float* b, float* c) {
  const int64_t panel_floats = panels_size(elements(p), p.n);
  // An odd number of cache lines, so that the rows of a tile do not fall into the same cache set.
  const int64_t pitch = p.transpose_a ? (round_up(elements(p), 16) / 16 | 1) * 16 : p.lda;
  const int64_t a_floats = p.transpose_a ? p.m * pitch : 0;
  // One a (b) for the whole batch is packed once; otherwise each product packs its own.
  const bool one_a = p.transpose_a && p.stride_a == 0 && p.batch > 1;
  const bool one_b = p.stride_b == 0 && p.batch > 1;
  const Scratch shared_a(one_a ? a_floats : 0), shared_b(one_b ? panel_floats : 0);
  if (one_a) transpose_a(p, a, shared_a.get(), pitch);
  if (one_b) pack_b(p, b, shared_b.get());
  const auto product = [&](int64_t i) {
    float* ci = c + i * p.stride_c;
    const Scratch own_a(one_a ? 0 : a_floats), own_b(one_b ? 0 : panel_floats);
    const float* rows = p.transpose_a ? shared_a.get() : a + i * p.stride_a;
    const float* panels = shared_b.get();
    if (p.transpose_a && !one_a) {
      transpose_a(p, a + i * p.stride_a, own_a.get(), pitch);
      rows = own_a.get();
    }
    if (!one_b) {
      pack_b(p, b + i * p.stride_b, own_b.get());
      panels = own_b.get();
    }
    multiply(p, rows, pitch, panels, ci);
  };
  each_product(p, kLargeProduct, product);
}

/// c^T = op(b)^T op(a)^T.
void multiply_exchanged(const GemmParams& p, const float* a, const float* b, float* c) {
  GemmParams q = exchanged(p);
  q.batch = 1;
  q.ldc = p.m;
  const Scratch columns(p.m * p.n);
  multiply_packed(q, b, a, columns.get());
  transpose(columns.get(), p.m, p.m, p.n, c, p.ldc);
}

/// How to compute each product of a batch; null: all of them by multiply_packed().
Product choose_product(const GemmParams& p) {
  if (const Product thin = thin_product(p)) return thin;
  // A few rows by the transpose of a large b, whose columns are then read in place of packing them.
  if (p.transpose_b && !p.accumulate && p.m * kFewRows <= smaller(p.n, p.k)) return multiply_exchanged;
  return nullptr;
}

void multiply_batch(const GemmParams& p, const float* a, const float* b, float* c) {
  if (const Product product = choose_product(p))
    each_product(p, kLargeThin,
                 [&](int64_t i) { product(p, a + i * p.stride_a, b + i * p.stride_b, c + i * p.stride_c); });
  else
    multiply_packed(p, a, b, c);
}

/// Into how many parts the depth is to be cut: more than one where a small c leaves the threads without work.
int64_t depth_parts(const GemmParams& p) {
  if (p.batch > 1) return 1;
  const bool vector = p.m == 1 || p.n == 1, dots = p.n == 1 ? !p.transpose_a : p.transpose_b;
  const int64_t tasks = vector ? ceil_div(p.m * p.n, dots ? 4 : 512) : ceil_div(p.m, 96) * panel_count(p.n);
  // Deep enough that a part reads far more than the c that it writes.
  const int64_t depth = larger(128, 4 * p.m * p.n / (p.m + p.n));
  const int64_t parts = smaller(64, smaller(p.k / depth, p.m * p.n * p.k / kLargeThin));
  return parts > 2 * tasks ? parts : 1;
}

/// The sum of the products of `parts` parts of the depth, a task each.
void multiply_parts(const GemmParams& p, int64_t parts, const float* a, const float* b, float* c) {
  const int64_t depth = round_up(ceil_div(p.k, parts), 16), size = p.m * p.n;
  parts = ceil_div(p.k, depth);
  const Scratch products(parts * size);
  parallel_for(parts, [&](int64_t i) {
    const int64_t k = i * depth;
    GemmParams q = p;
    q.k = smaller(depth, p.k - k);
    q.ldc = p.n;
    q.accumulate = q.symmetric = false;
    multiply_batch(q, a + k * (p.transpose_a ? p.lda : 1), b + k * (p.transpose_b ? 1 : p.ldb),
                   products.get() + i * size);
  });
  const Scratch sums(size);
  reduce(Reduce::sum, 1, parts, size, products.get(), sums.get());
  const bool dense = p.ldc == p.n;  // then c is as one row
  const int64_t rows = dense ? 1 : p.m, columns = dense ? size : p.n;
  for (int64_t r = 0; r < rows; ++r)
    each_vector(0, columns, [&](auto at, int64_t j) {
      const Vec sum = at.load(sums.get() + r * columns + j);
      float* y = c + r * p.ldc + j;
      at.store(p.accumulate ? at.load(y) + sum : sum, y);
    });
}

/// Whether a product gains from pairs of bf16: deep enough, and so wide that the pairs of a row serve often.
bool gains_by_pairs(const GemmParams& p) {
  return p.k >= kLeastPairDepth && p.n >= kLeastPairColumns && p.m >= kLeastPairColumns;
}

}  // namespace

void gemm(const GemmParams& params, const float* a, const float* b, float* c) {
  GemmParams p = params;
  p.bf16 = p.bf16 && multiplies_bf16() && gains_by_pairs(p);
  if (p.m <= 0 || p.n <= 0 || p.batch <= 0) return;
  if (p.k <= 0) {
    if (!p.accumulate)
      for (int64_t i = 0; i < p.batch; ++i) clear(p, c + i * p.stride_c);
    return;
  }
  if (const int64_t parts = depth_parts(p); parts > 1)
    multiply_parts(p, parts, a, b, c);
  else
    multiply_batch(p, a, b, c);
}

}  // namespace weft::kernels::WEFT_ISA
