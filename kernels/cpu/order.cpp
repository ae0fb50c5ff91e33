// The order of elements, and sums along a dimension.
#include <algorithm>
#include <vector>

#include "weft/kernels/cpu/scalar.h"
#include "weft/kernels/parallel.h"
#include "weft/kernels/placed.h"

namespace weft::kernels::scalar {
namespace {

/// Sorts what stands in order of its places: digit by digit from the lowest of the keys, each pass keeping
/// the order of equal digits.
template <int kBits>
void radix_sort(std::vector<Placed>& elements, std::vector<Placed>& spare) {
  constexpr int kDigits = 1 << kBits;
  spare.resize(elements.size());
  for (int shift = 0; shift < 32; shift += kBits) {
    const auto digit = [=](Placed e) { return size_t(key_of(e) >> shift) & (kDigits - 1); };
    uint32_t begin[kDigits + 1] = {};
    for (const Placed e : elements) ++begin[digit(e) + 1];
    if (begin[digit(elements[0]) + 1] == elements.size()) continue;  // all have the same
    for (int d = 0; d < kDigits; ++d) begin[d + 1] += begin[d];
    for (const Placed e : elements) spare[begin[digit(e)]++] = e;
    elements.swap(spare);
  }
}

/// Sorts columns, and keeps its memory for the next one.
class Sorter {
 public:
  Sorter(int64_t size, int64_t step, int64_t k, bool descending)
      : size_(size), step_(step), k_(k), descending_(descending) {}

  /// Where the first k elements stand.
  void operator()(const float* x, int64_t* index) {
    elements_.clear();
    if (16 * k_ < size_)
      sort_few(x);
    else
      sort_all(x);
    for (int64_t j = 0; j < k_; ++j) index[j * step_] = place_of(elements_[size_t(j)]);
  }

 private:
  Placed element(const float* x, int64_t i) const { return placed(sort_key(x[i * step_], descending_), i); }

  void sort_all(const float* x) {
    for (int64_t i = 0; i < size_; ++i) elements_.push_back(element(x, i));
    if (size_ < 128)
      std::sort(elements_.begin(), elements_.end());
    else if (size_ < 8192)
      radix_sort<8>(elements_, spare_);
    else
      radix_sort<11>(elements_, spare_);
  }

  /// Holds the first k so far in a heap, the last of them on top. Most blocks have none that comes before it.
  void sort_few(const float* x) {
    constexpr int64_t kBlock = 64;
    for (int64_t i = 0; i < k_; ++i) elements_.push_back(element(x, i));
    std::make_heap(elements_.begin(), elements_.end());
    uint32_t limit = key_of(elements_.front());
    float values[kBlock] = {};  // in the last block also some of the one before, which are looked at in vain
    for (int64_t first = k_; first < size_; first += kBlock) {
      const int64_t count = std::min(kBlock, size_ - first);
      for (int64_t i = 0; i < count; ++i) values[i] = x[(first + i) * step_];
      uint32_t keys[kBlock], any = 0;
      for (int64_t i = 0; i < kBlock; ++i) {
        keys[i] = sort_key(values[i], descending_);
        any |= uint32_t(keys[i] < limit);
      }
      if (any == 0) continue;
      for (int64_t i = 0; i < count; ++i) {
        if (keys[i] >= limit) continue;  // of equal keys the earlier one stays
        std::pop_heap(elements_.begin(), elements_.end());
        elements_.back() = placed(keys[i], first + i);
        std::push_heap(elements_.begin(), elements_.end());
        limit = key_of(elements_.front());
      }
    }
    std::sort_heap(elements_.begin(), elements_.end());
  }

  int64_t size_, step_, k_;
  bool descending_;
  std::vector<Placed> elements_, spare_;
};

}  // namespace

void argsort(int64_t outer, int64_t size, int64_t inner, int64_t k, bool descending, const float* x,
             int64_t* index) {
  if (k == 0) return;
  parallel_ranges(outer * inner, std::max<int64_t>(1, 4096 / size), [=](int64_t begin, int64_t end) {
    Sorter sorter(size, inner, k, descending);
    for (int64_t c = begin; c < end; ++c) {
      const int64_t o = c / inner, n = c - o * inner;
      sorter(x + o * size * inner + n, index + o * k * inner + n);
    }
  });
}

namespace {

/// One row. Four sums at a time, so that each waits for the fourth before it and not for its neighbour.
void cumsum_row(int64_t size, bool reverse, const float* x, float* y) {
  const int64_t step = reverse ? -1 : 1;
  if (reverse) x += size - 1, y += size - 1;
  double sum = 0;
  int64_t i = 0;
  for (; i + 4 <= size; i += 4, x += 4 * step, y += 4 * step) {
    const double a = x[0], b = x[step], c = x[2 * step], d = x[3 * step];
    y[0] = float(sum + a);
    y[step] = float(sum + (a + b));
    y[2 * step] = float(sum + (a + b + c));
    sum += a + b + (c + d);
    y[3 * step] = float(sum);
  }
  for (; i < size; ++i, x += step, y += step) *y = float(sum += double(*x));
}

/// Some neighbouring columns, their sums side by side.
constexpr int64_t kColumns = 64;
void cumsum_columns(int64_t size, int64_t inner, int64_t count, bool reverse, const float* x, float* y) {
  double sum[kColumns] = {};
  for (int64_t i = 0; i < size; ++i) {
    const int64_t at = (reverse ? size - 1 - i : i) * inner;
    for (int64_t c = 0; c < count; ++c) y[at + c] = float(sum[c] += double(x[at + c]));
  }
}

}  // namespace

void cumsum(int64_t outer, int64_t size, int64_t inner, bool reverse, const float* x, float* y) {
  const int64_t strips = (inner + kColumns - 1) / kColumns;
  const int64_t work = std::max<int64_t>(1, size * std::min(inner, kColumns));
  parallel_ranges(outer * strips, std::max<int64_t>(1, 16384 / work), [=](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t o = task / strips, n = (task - o * strips) * kColumns, first = o * size * inner + n;
      if (inner == 1)
        cumsum_row(size, reverse, x + first, y + first);
      else
        cumsum_columns(size, inner, std::min(kColumns, inner - n), reverse, x + first, y + first);
    }
  });
}

}  // namespace weft::kernels::scalar
