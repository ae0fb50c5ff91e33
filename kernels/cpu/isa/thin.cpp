#include "weft/kernels/cpu/isa/thin.h"

#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/panels.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Multiply-adds of one task, about as many floats of the matrix: some microseconds.
constexpr int64_t kTask = 1 << 16;
// Floats of a packed right-hand side that a tiny product keeps on the stack.
constexpr int64_t kTinyPanel = 1024;

/// y[r * step] (+)= row r of the matrix times x, the same bits whatever rows are beside it.
template <int kRows>
void dot_rows(int64_t depth, const float* matrix, int64_t pitch, const float* x, float* y, int64_t step,
              bool accumulate) {
  constexpr int kChains = 2;  // sums that do not wait for each other
  Vec sums[kRows][kChains];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kChains; ++v) sums[r][v] = Vec(0.0f);
  int64_t k = 0;
  for (; k + kChains * kWidth <= depth; k += kChains * kWidth)
#pragma GCC unroll 4
    for (int v = 0; v < kChains; ++v) {
      const Vec factor = Vec::load(x + k + v * kWidth);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
        sums[r][v] = fma(Vec::load(matrix + r * pitch + k + v * kWidth), factor, sums[r][v]);
    }
  each_vector(k, depth, [&](auto at, int64_t i) {
    const Vec factor = at.load(x + i);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[r][0] = fma(at.load(matrix + r * pitch + i), factor, sums[r][0]);
  });
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 1; v < kChains; ++v) sums[r][0] += sums[r][v];
    const float sum = lane_sum(sums[r][0]);
    y[r * step] = accumulate ? y[r * step] + sum : sum;
  }
}

/// y[0..width) (+)= the sum of kRows rows of the matrix, each times its x.
template <int kRows>
void add_rows(int64_t width, const float* matrix, int64_t pitch, const float* x, int64_t x_step, float* y,
              bool accumulate) {
  Vec factors[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) factors[r] = Vec(x[r * x_step]);
  each_vector(0, width, [&](auto at, int64_t i) {
    Vec sum = accumulate ? at.load(y + i) : Vec(0.0f);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum = fma(at.load(matrix + r * pitch + i), factors[r], sum);
    at.store(sum, y + i);
  });
}

/// n = 1. Rows of a that lie in memory as such are multiplied one by one with the vector; otherwise the
/// columns, which do, are added up, a piece that stays in the L1 cache at a time.
void matrix_vector(const GemmParams& p, const float* a, const float* b, float* c) {
  if (!p.transpose_a) {
    constexpr int kRows = 4;
    parallel_ranges(p.m, round_up(larger(1, kTask / p.k), kRows), [&](int64_t begin, int64_t end) {
      int64_t r = begin;
      for (; r + kRows <= end; r += kRows)
        dot_rows<kRows>(p.k, a + r * p.lda, p.lda, b, c + r * p.ldc, p.ldc, p.accumulate);
      for (; r < end; ++r) dot_rows<1>(p.k, a + r * p.lda, p.lda, b, c + r * p.ldc, p.ldc, p.accumulate);
    });
    return;
  }
  constexpr int kRows = 8;
  constexpr int64_t kPiece = 512;  // half a page of each row, so that not every line is another page's
  const int64_t step = p.transpose_b ? 1 : p.ldb;
  parallel_ranges(p.m, larger(kPiece, round_up(kTask / p.k, kWidth)), [&](int64_t begin, int64_t end) {
    bool accumulate = p.accumulate;
    int64_t k = 0;
    for (; k + kRows <= p.k; k += kRows, accumulate = true)
      add_rows<kRows>(end - begin, a + k * p.lda + begin, p.lda, b + k * step, step, c + begin, accumulate);
    for (; k < p.k; ++k, accumulate = true)
      add_rows<1>(end - begin, a + k * p.lda + begin, p.lda, b + k * step, step, c + begin, accumulate);
  });
}

/// m = 1.
void vector_matrix(const GemmParams& p, const float* a, const float* b, float* c) {
  GemmParams q = exchanged(p);
  q.ldc = 1;
  matrix_vector(q, b, a, c);
}

/// k = 1.
void outer_product(const GemmParams& p, const float* a, const float* b, float* c) {
  const int64_t step = p.transpose_a ? 1 : p.lda;
  parallel_ranges(p.m, larger(1, kTask / p.n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      add_rows<1>(p.n, b, 0, a + r * step, 0, c + r * p.ldc, p.accumulate);
  });
}

/// kRows rows of one vector of columns of c; b has rows of whole vectors.
template <int kRows, class At>
WEFT_INLINE void tiny_rows(const GemmParams& p, const float* a, const float* b, int64_t b_pitch, float* c,
                           At at) {
  const int64_t row = p.transpose_a ? 1 : p.lda, column = p.transpose_a ? p.lda : 1;
  Vec sums[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r] = Vec(0.0f);
  for (int64_t k = 0; k < p.k; ++k) {
    const Vec x = Vec::load(b + k * b_pitch);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] = fma(Vec(a[r * row + k * column]), x, sums[r]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    if (p.accumulate) sums[r] += at.load(c + r * p.ldc);
    at.store(sums[r], c + r * p.ldc);
  }
}

template <int n>
struct Count {
  static constexpr int value = n;
};

/// A b of a few rows and columns; each task packs it for itself, where it must be packed.
void tiny(const GemmParams& p, const float* a, const float* b, float* c) {
  const int64_t row = p.transpose_a ? 1 : p.lda, pitch = round_up(p.n, kWidth);
  parallel_ranges(p.m, round_up(larger(1, kTask / (p.k * p.n)), 8), [&](int64_t begin, int64_t end) {
    alignas(64) float panel[kTinyPanel];
    const bool packed = p.transpose_b || p.n < pitch;
    if (packed)
      p.transpose_b ? pack_panel(b, p.k, 1, p.n, p.ldb, panel) : pack_panel(b, p.k, p.ldb, p.n, 1, panel);
    const float* const columns = packed ? panel : b;
    const int64_t b_pitch = packed ? pitch : p.ldb;
    each_vector(0, p.n, [&](auto at, int64_t i) {
      const auto rows = [&](auto count, int64_t r) {
        tiny_rows<decltype(count)::value>(p, a + r * row, columns + i, b_pitch, c + r * p.ldc + i, at);
      };
      int64_t r = begin;
      for (; r + 8 <= end; r += 8) rows(Count<8>{}, r);
      for (; r + 2 <= end; r += 2) rows(Count<2>{}, r);
      if (r < end) rows(Count<1>{}, r);
    });
  });
}

/// Whether matrix_vector() finds its vectors without gaps.
bool is_matrix_vector(const GemmParams& p) {
  return p.n == 1 && (p.transpose_a ? p.ldc == 1 : p.transpose_b || p.ldb == 1);
}

}  // namespace

Product thin_product(const GemmParams& p) {
  if (p.k == 1 && (!p.transpose_b || p.ldb == 1)) return outer_product;
  if (is_matrix_vector(p)) return matrix_vector;
  GemmParams q = exchanged(p);
  q.ldc = 1;
  if (is_matrix_vector(q)) return vector_matrix;
  if (p.k * round_up(p.n, kWidth) <= kTinyPanel && (p.n <= kWidth || p.m * p.n * p.k <= 4096)) return tiny;
  return nullptr;
}

}  // namespace weft::kernels::WEFT_ISA
