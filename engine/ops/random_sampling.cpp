#include "weft/engine/ops/random_sampling.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "weft/kernels/parallel.h"
#include "weft/kernels/philox.h"

namespace weft {

Tensor randint(int64_t low, int64_t high, const Shape& shape, Generator& generator) {
  check(low < high, "randint: no number is at least ", low, " and below ", high, "; low must be below high");
  const Tensor y = Tensor::empty(shape, DType::i64);
  const uint64_t key = generator.next_key(), range = uint64_t(high) - uint64_t(low);
  // Numbers from here on are drawn again, so that those below hold each result equally often.
  const uint64_t limit = UINT64_MAX - UINT64_MAX % range;
  int64_t* const out = y.data<int64_t>();
  kernels::parallel_ranges(y.numel(), 16 << 10, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      uint64_t drawn = UINT64_MAX;
      for (uint64_t attempt = 0; drawn >= limit; ++attempt) {
        const auto w = kernels::philox(key, uint64_t(i), attempt);
        drawn = uint64_t(w[0]) << 32 | w[1];
      }
      out[i] = int64_t(uint64_t(low) + drawn % range);
    }
  });
  return y;
}

namespace {

/// Number `i` of the stream, uniform in [0, 1).
double uniform_number(uint64_t key, int64_t i) {
  const auto w = kernels::philox(key, uint64_t(i));
  return kernels::uniform_double(w[0], w[1]);
}

/// The first place whose running sum is above a share of the whole sum.
void draw_with_replacement(const double* p, int64_t k, int64_t n, uint64_t key, int64_t first, int64_t* out) {
  std::vector<double> sums;
  double sum = 0;
  int64_t last = 0;  // place that is not zero
  for (int64_t i = 0; i < k; ++i) {
    sums.push_back(sum += p[i]);
    if (p[i] > 0) last = i;
  }
  for (int64_t j = 0; j < n; ++j) {
    const double share = uniform_number(key, first + j) * sum;
    out[j] = std::min<int64_t>(last, std::upper_bound(sums.begin(), sums.end(), share) - sums.begin());
  }
}

/// A race of exponential clocks with rates p: the order in which they ring is that of drawing without
/// replacement (Efraimidis and Spirakis, 2006). Times are compared by their logarithms, which do not
/// overflow.
void draw_without_replacement(const double* p, int64_t k, int64_t n, uint64_t key, int64_t first,
                              int64_t* out) {
  std::vector<std::pair<double, int64_t>> times;
  for (int64_t i = 0; i < k; ++i)
    if (p[i] > 0)
      times.emplace_back(std::log(-std::log1p(-uniform_number(key, first + i))) - std::log(p[i]), i);
  std::partial_sort(times.begin(), times.begin() + n, times.end());
  for (int64_t j = 0; j < n; ++j) out[j] = times[size_t(j)].second;
}

void check_probabilities(const Tensor& probabilities, const double* p, int64_t k, int64_t n,
                         bool replacement) {
  int64_t row = 0;
  for (const double* const end = p + probabilities.numel(); p != end; p += k, ++row) {
    int64_t positive = 0;
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) {
      check(std::isfinite(p[i]) && p[i] >= 0, "multinomial: ", p[i], " at place ", i, " of row ", row, " of ",
            probabilities.shape(), " is no probability; softmax() makes some of logits");
      positive += p[i] > 0;
      sum += p[i];
    }
    check(positive > 0, "multinomial: row ", row, " of ", probabilities.shape(),
          " is all zero, so there is nothing to draw");
    check(std::isfinite(sum), "multinomial: row ", row, " of ", probabilities.shape(),
          " has an infinite sum; divide it by its maximum");
    check(replacement || n <= positive, "multinomial: ", n, " draws without replacement from row ", row,
          " of ", probabilities.shape(), ", which has ", positive,
          " places that are not zero; draw fewer, or with replacement");
  }
}

}  // namespace

Tensor multinomial(const Tensor& probabilities, int64_t n, bool replacement, Generator& generator) {
  check(probabilities.ndim() >= 1 && is_floating(probabilities.dtype()) && probabilities.size(-1) > 0,
        "multinomial: the probabilities are ", probabilities.dtype(), " ", probabilities.shape(),
        "; expected floating [.., K]");
  check(probabilities.device() == Device::cpu, "multinomial: the probabilities are on ",
        probabilities.device(), "; draw on the CPU, with probabilities.to(Device::cpu)");
  check(n >= 1, "multinomial: ", n, " draws; there must be 1 or more");
  const Tensor wide = probabilities.detach().to(DType::f64);
  const int64_t k = wide.size(-1), rows = wide.numel() / k;
  const double* const p = wide.data<double>();
  check_probabilities(probabilities, p, k, n, replacement);
  Shape shape = wide.shape();
  shape.set(-1, n);
  const Tensor y = Tensor::empty(shape, DType::i64);
  const uint64_t key = generator.next_key();
  int64_t* const out = y.data<int64_t>();
  const int64_t draws = replacement ? n : k;  // numbers of the stream that a row takes
  kernels::parallel_ranges(rows, 1 + (16 << 10) / k, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      (replacement ? draw_with_replacement : draw_without_replacement)(p + r * k, k, n, key, r * draws,
                                                                       out + r * n);
  });
  return y;
}

}  // namespace weft
