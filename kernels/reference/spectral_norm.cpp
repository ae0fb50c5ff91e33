#include <algorithm>
#include <cmath>
#include <vector>

#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

/// unit = x / max(|x|, eps).
template <class T>
void normalize(const std::vector<double>& x, double eps, T* unit) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  const double norm = maximum(std::sqrt(squares), eps);
  for (size_t i = 0; i < x.size(); ++i) unit[i] = T(x[i] / norm);
}

template <class T>
void spectral_norm_forward(const SpectralNormArgs<T>& a, T* left, T* right, T* left_now, T* right_now,
                           T* sigma, T* y) {
  const auto at = [&](int64_t r, int64_t c) { return double(a.w[r * a.cols + c]); };
  std::vector<double> by_row(static_cast<size_t>(a.rows)), by_column(static_cast<size_t>(a.cols));
  const auto multiply_right = [&] {  // by_row = w right
    std::fill(by_row.begin(), by_row.end(), 0.0);
    for (int64_t r = 0; r < a.rows; ++r)
      for (int64_t c = 0; c < a.cols; ++c) by_row[size_t(r)] += at(r, c) * double(right[c]);
  };
  const auto multiply_left = [&] {  // by_column = w' left
    std::fill(by_column.begin(), by_column.end(), 0.0);
    for (int64_t r = 0; r < a.rows; ++r)
      for (int64_t c = 0; c < a.cols; ++c) by_column[size_t(c)] += at(r, c) * double(left[r]);
  };
  for (int i = 0; i < a.iterations; ++i)
    for (const bool make_left : {a.left_first, !a.left_first}) {
      if (make_left) {
        multiply_right();
        normalize(by_row, a.eps, left);
      } else {
        multiply_left();
        normalize(by_column, a.eps, right);
      }
    }
  multiply_right();
  double s = 0;
  for (int64_t r = 0; r < a.rows; ++r) s += double(left[r]) * by_row[size_t(r)];
  *sigma = T(s);
  for (int64_t i = 0; i < a.rows * a.cols; ++i) y[i] = T(double(a.w[i]) / double(*sigma));
  std::copy_n(left, a.rows, left_now);
  std::copy_n(right, a.cols, right_now);
}

template <class T>
void spectral_norm_backward(int64_t rows, int64_t cols, const T* left, const T* right, const T* sigma,
                            const T* y, const T* dy, T* dw) {
  double product = 0;
  for (int64_t i = 0; i < rows * cols; ++i) product += double(dy[i]) * double(y[i]);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const int64_t i = r * cols + c;
      dw[i] = T((double(dy[i]) - product * double(left[r]) * double(right[c])) / double(*sigma));
    }
}

}  // namespace

template <class T>
void set_spectral_norm(KernelTable<T>& table) {
  table.spectral_norm_forward = spectral_norm_forward<T>;
  table.spectral_norm_backward = spectral_norm_backward<T>;
}

template void set_spectral_norm(KernelTable<float>&);
template void set_spectral_norm(KernelTable<double>&);

}  // namespace weft::kernels::plain
