#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

/// The row's maximum, and the sum over the row of exp(x - maximum).
struct RowSum {
  double max = 0, sum = 0;
  template <class T>
  RowSum(const T* x, int64_t cols) {
    if (cols > 0) max = double(*std::max_element(x, x + cols));
    for (int64_t j = 0; j < cols; ++j) sum += std::exp(double(x[j]) - max);
  }
};

template <class T>
void softmax(int64_t rows, int64_t cols, const T* x, T* y) {
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    const RowSum row(x, cols);
    for (int64_t j = 0; j < cols; ++j) y[j] = T(std::exp(double(x[j]) - row.max) / row.sum);
  }
}

template <class T>
void log_softmax(int64_t rows, int64_t cols, const T* x, T* y) {
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    const RowSum row(x, cols);
    for (int64_t j = 0; j < cols; ++j) y[j] = T(double(x[j]) - row.max - std::log(row.sum));
  }
}

template <class T>
void masked_softmax(const MaskedSoftmaxArgs<T>& a, T* y) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  for (int64_t row = 0; row < a.batch * a.heads * a.rows; ++row) {
    const int64_t r = row % a.rows;
    const T* x = a.x + row * a.cols;
    const T* mask = a.mask_row(row / a.rows, r);
    std::vector<double> z(size_t(a.cols), -inf);
    for (int64_t c = 0; c < a.seen(r); ++c)
      if (!mask || double(mask[c]) != -inf)
        z[size_t(c)] = double(x[c]) * double(a.scale) + (mask ? double(mask[c]) : 0);
    const RowSum sum(z.data(), a.cols);
    const bool any = std::any_of(z.begin(), z.end(), [](double v) { return v != -inf; });
    for (int64_t c = 0; c < a.cols; ++c)
      y[row * a.cols + c] = any ? T(std::exp(z[size_t(c)] - sum.max) / sum.sum) : T(0);
  }
}

/// dy_i / dx_j = y_i ([i = j] - y_j)
template <class T>
void softmax_backward(int64_t rows, int64_t cols, const T* y, const T* dy, T* dx) {
  for (int64_t r = 0; r < rows; ++r, y += cols, dy += cols, dx += cols) {
    double dot = 0;
    for (int64_t j = 0; j < cols; ++j) dot += double(dy[j]) * double(y[j]);
    for (int64_t j = 0; j < cols; ++j) dx[j] = T(double(y[j]) * (double(dy[j]) - dot));
  }
}

/// dy_i / dx_j = [i = j] - exp(y_j)
template <class T>
void log_softmax_backward(int64_t rows, int64_t cols, const T* y, const T* dy, T* dx) {
  for (int64_t r = 0; r < rows; ++r, y += cols, dy += cols, dx += cols) {
    double sum = 0;
    for (int64_t j = 0; j < cols; ++j) sum += double(dy[j]);
    for (int64_t j = 0; j < cols; ++j) dx[j] = T(double(dy[j]) - std::exp(double(y[j])) * sum);
  }
}

/// t of one class.
template <class T>
double target(const CrossEntropyArgs<T>& a, int64_t row, int64_t c) {
  if (!a.labels) return double(a.probabilities[row * a.classes + c]);
  return a.smoothing / double(a.classes) + (c == a.labels[row] ? 1 - a.smoothing : 0);
}

template <class T>
void cross_entropy_forward(const CrossEntropyArgs<T>& a, T* log_p, T* loss) {
  log_softmax(a.rows, a.classes, a.logits, log_p);
  double total = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    if (a.labels && (a.labels[r] < 0 || a.labels[r] >= a.classes))
      total = std::numeric_limits<double>::quiet_NaN();
    for (int64_t c = 0; c < a.classes; ++c)
      if (const double t = target(a, r, c); t != 0) total -= t * double(log_p[r * a.classes + c]);
  }
  *loss = T(total / double(a.rows));
}

template <class T>
void cross_entropy_backward(const CrossEntropyArgs<T>& a, const T* log_p, const T* dloss, T* dx) {
  const double scale = double(*dloss) / double(a.rows);
  for (int64_t r = 0; r < a.rows; ++r) {
    double sum = 0;
    for (int64_t c = 0; c < a.classes; ++c) sum += target(a, r, c);
    for (int64_t c = 0; c < a.classes; ++c) {
      const int64_t i = r * a.classes + c;
      dx[i] = T(scale * (std::exp(double(log_p[i])) * sum - target(a, r, c)));
    }
  }
}

}  // namespace

template <class T>
void set_softmax(KernelTable<T>& table) {
  table.softmax = softmax<T>;
  table.log_softmax = log_softmax<T>;
  table.masked_softmax = masked_softmax<T>;
  table.softmax_backward = softmax_backward<T>;
  table.log_softmax_backward = log_softmax_backward<T>;
  table.cross_entropy_forward = cross_entropy_forward<T>;
  table.cross_entropy_backward = cross_entropy_backward<T>;
}

template void set_softmax(KernelTable<float>&);
template void set_softmax(KernelTable<double>&);

}  // namespace weft::kernels::plain
