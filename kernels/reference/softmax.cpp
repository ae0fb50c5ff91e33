#include <algorithm>
#include <cmath>

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

}  // namespace

template <class T>
void set_softmax(KernelTable<T>& table) {
  table.softmax = softmax<T>;
  table.log_softmax = log_softmax<T>;
  table.softmax_backward = softmax_backward<T>;
  table.log_softmax_backward = log_softmax_backward<T>;
}

template void set_softmax(KernelTable<float>&);
template void set_softmax(KernelTable<double>&);

}  // namespace weft::kernels::plain
