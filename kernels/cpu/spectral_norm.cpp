// The products of the matrix and a vector are the table's; what is left are single passes.
#include <algorithm>
#include <cmath>
#include <vector>

#include "weft/kernels/cpu/scalar.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::scalar {
namespace {

double dot(int64_t n, const float* a, const float* b) {
  double sums[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; ++k) sums[k] += double(a[i + k]) * double(b[i + k]);
  for (; i < n; ++i) sums[0] += double(a[i]) * double(b[i]);
  return sums[0] + sums[1] + (sums[2] + sums[3]);
}

/// x / max(|x|, eps).
void normalize(const std::vector<float>& x, double eps, float* unit) {
  double norm = std::sqrt(dot(int64_t(x.size()), x.data(), x.data()));
  if (norm < eps) norm = eps;
  for (size_t i = 0; i < x.size(); ++i) unit[i] = float(double(x[i]) / norm);
}

/// Calls f(row) for all rows, some at a time on each thread.
template <class F>
void each_row(int64_t rows, int64_t cols, F&& f) {
  parallel_ranges(rows, 1 + (1 << 15) / cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r);
  });
}

}  // namespace

void spectral_norm_forward(const SpectralNormArgs<float>& a, float* left, float* right, float* left_now,
                           float* right_now, float* sigma, float* y) {
  if (a.rows * a.cols == 0) return;
  std::vector<float> by_row(static_cast<size_t>(a.rows)), by_column(static_cast<size_t>(a.cols));
  const auto multiply_right = [&] {
    cpu().gemm({.m = a.rows, .n = 1, .k = a.cols, .lda = a.cols, .ldb = 1, .ldc = 1}, a.w, right,
               by_row.data());
  };
  for (int i = 0; i < a.iterations; ++i)
    for (const bool make_left : {a.left_first, !a.left_first}) {
      if (make_left) {
        multiply_right();
        normalize(by_row, a.eps, left);
      } else {
        cpu().gemm({.m = a.cols, .n = 1, .k = a.rows, .transpose_a = true, .lda = a.cols, .ldb = 1, .ldc = 1},
                   a.w, left, by_column.data());
        normalize(by_column, a.eps, right);
      }
    }
  if (a.iterations == 0 || a.left_first) multiply_right();
  const float s = float(dot(a.rows, left, by_row.data()));
  *sigma = s;
  each_row(a.rows, a.cols, [&](int64_t r) {
    for (int64_t i = r * a.cols; i < (r + 1) * a.cols; ++i) y[i] = a.w[i] / s;
  });
  std::copy_n(left, a.rows, left_now);
  std::copy_n(right, a.cols, right_now);
}

void spectral_norm_backward(int64_t rows, int64_t cols, const float* left, const float* right,
                            const float* sigma, const float* y, const float* dy, float* dw) {
  if (rows * cols == 0) return;
  std::vector<double> products(static_cast<size_t>(rows));
  each_row(rows, cols, [&](int64_t r) { products[size_t(r)] = dot(cols, dy + r * cols, y + r * cols); });
  double product = 0;
  for (const double p : products) product += p;
  const float s = *sigma;
  each_row(rows, cols, [&](int64_t r) {
    const float scale = float(product * double(left[r]));
    for (int64_t c = 0; c < cols; ++c) dw[r * cols + c] = (dy[r * cols + c] - scale * right[c]) / s;
  });
}

}  // namespace weft::kernels::scalar
