#include <limits>

#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

/// Over nothing: sum 0, max -inf, min +inf. A NaN makes any of them NaN.
template <class T>
void reduce(Reduce op, int64_t outer, int64_t count, int64_t inner, const T* x, T* y) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      double result = op == Reduce::sum ? 0 : op == Reduce::max ? -inf : inf;
      for (int64_t r = 0; r < count; ++r) {
        const double v = x[(o * count + r) * inner + i];
        switch (op) {
          case Reduce::sum:
            result += v;
            break;
          case Reduce::max:
            result = maximum(result, v);
            break;
          case Reduce::min:
            result = minimum(result, v);
            break;
        }
      }
      y[o * inner + i] = T(result);
    }
}

template <class T>
void argmax(int64_t rows, int64_t cols, const T* x, int64_t* y) {
  for (int64_t r = 0; r < rows; ++r, x += cols) {
    int64_t best = 0;
    for (int64_t c = 1; c < cols && x[best] == x[best]; ++c)
      if (x[c] > x[best] || x[c] != x[c]) best = c;
    y[r] = best;
  }
}

}  // namespace

template <class T>
void set_reduce(KernelTable<T>& table) {
  table.reduce = reduce<T>;
  table.argmax = argmax<T>;
}

template void set_reduce(KernelTable<float>&);
template void set_reduce(KernelTable<double>&);

}  // namespace weft::kernels::plain
