#include <algorithm>
#include <limits>
#include <vector>

#include "weft/kernels/reference/families.h"

namespace weft::kernels {

template <class T>
void plain_gather(const GatherArgs& a, const T* x, T* y) {
  for (int64_t o = 0; o < a.outer; ++o)
    for (int64_t i = 0; i < a.count; ++i)
      for (int64_t n = 0; n < a.inner; ++n, ++y) {
        const int64_t place = a.at(o, i, n);
        *y = a.inside(place) ? x[(o * a.size + place) * a.inner + n] : std::numeric_limits<T>::quiet_NaN();
      }
}
template void plain_gather(const GatherArgs&, const int64_t*, int64_t*);
template void plain_gather(const GatherArgs&, const uint8_t*, uint8_t*);

namespace plain {
namespace {

template <class T>
void scatter_add(const GatherArgs& a, const T* src, T* y) {
  const int64_t all = a.outer * a.size * a.inner;
  std::vector<double> sum(y, y + all);
  for (int64_t o = 0; o < a.outer; ++o)
    for (int64_t i = 0; i < a.count; ++i)
      for (int64_t n = 0; n < a.inner; ++n, ++src) {
        const int64_t place = a.at(o, i, n);
        if (a.inside(place) && place != a.skipped)
          sum[size_t((o * a.size + place) * a.inner + n)] += double(*src);
      }
  for (int64_t k = 0; k < all; ++k) y[k] = T(sum[size_t(k)]);
}

template <class T>
void argsort(int64_t outer, int64_t size, int64_t inner, int64_t k, bool descending, const T* x,
             int64_t* index) {
  std::vector<int64_t> order(static_cast<size_t>(size));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t n = 0; n < inner; ++n) {
      const T* column = x + o * size * inner + n;
      const auto less = [=](int64_t i, int64_t j) {
        const T a = column[i * inner], b = column[j * inner];
        return a < b || (a == a && b != b);
      };
      for (int64_t i = 0; i < size; ++i) order[size_t(i)] = i;
      std::stable_sort(order.begin(), order.end(),
                       [=](int64_t i, int64_t j) { return descending ? less(j, i) : less(i, j); });
      for (int64_t j = 0; j < k; ++j) index[(o * k + j) * inner + n] = order[size_t(j)];
    }
}

template <class T>
void cumsum(int64_t outer, int64_t size, int64_t inner, bool reverse, const T* x, T* y) {
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t n = 0; n < inner; ++n) {
      double sum = 0;
      for (int64_t i = 0; i < size; ++i) {
        const int64_t at = (o * size + (reverse ? size - 1 - i : i)) * inner + n;
        y[at] = T(sum += double(x[at]));
      }
    }
}

}  // namespace

template <class T>
void set_order(KernelTable<T>& table) {
  table.gather = plain_gather<T>;
  table.scatter_add = scatter_add<T>;
  table.argsort = argsort<T>;
  table.cumsum = cumsum<T>;
}

template void set_order(KernelTable<float>&);
template void set_order(KernelTable<double>&);

}  // namespace plain
}  // namespace weft::kernels
