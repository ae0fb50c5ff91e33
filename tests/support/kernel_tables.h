// For tests of the CPU's kernels: guarded arrays, random numbers, and a run of a kernel on every table.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"

namespace weft::test {

using kernels::KernelTable;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
constexpr double kEps = std::numeric_limits<float>::epsilon();

inline std::mt19937 generator(1);
inline int64_t pick(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}

/// An array with guard zones on both sides; ok() tells whether they are untouched.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t n, T value) : all_(size_t(n) + 2 * kGuard, T(kMark)), size_(n) {
    std::fill_n(data(), n, value);
  }
  explicit Guarded(const std::vector<T>& values) : Guarded(int64_t(values.size()), T(0)) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() { return all_.data() + kGuard; }
  const T* data() const { return all_.data() + kGuard; }
  int64_t size() const { return size_; }
  T operator[](int64_t i) const { return data()[i]; }
  bool ok() const {
    for (size_t i = 0; i < kGuard; ++i)
      if (all_[i] != T(kMark) || all_[all_.size() - 1 - i] != T(kMark)) return false;
    return true;
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr int kMark = 77777;
  std::vector<T> all_;
  int64_t size_;
};

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

inline Floats random_floats(int64_t n, float low = -1, float high = 1) {
  Floats v(static_cast<size_t>(n));
  std::uniform_real_distribution<float> in(low, high);
  for (float& x : v) x = in(generator);
  return v;
}
inline Doubles widen(const Floats& v) { return Doubles(v.begin(), v.end()); }

/// The largest excess of |actual - expected| over absolute + relative * |expected|; NaN meets NaN, infinity
/// its like.
template <class T>
double excess(const Guarded<float>& actual, const std::vector<T>& expected, double absolute,
              double relative) {
  double worst = -1;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double a = double(actual[int64_t(i)]), e = double(float(expected[i]));
    if (std::isnan(e) && std::isnan(a)) continue;
    if (std::isinf(e) && a == e) continue;
    const double over = std::abs(a - double(expected[i])) - (absolute + relative * std::abs(e));
    if (!(over <= worst)) worst = std::isnan(over) ? 1e30 : over;
  }
  return worst;
}

/// Runs `body(table, outputs)` with 1, 2 and 7 threads on each SIMD table and checks that outputs are the
/// same bits, then hands the last ones to `check`. Outputs are filled with NaN first.
inline void each_table(
    const std::vector<int64_t>& sizes,
    const std::function<void(const KernelTable<float>&, std::vector<Guarded<float>>&)>& body,
    const std::function<void(const std::vector<Guarded<float>>&)>& check) {
  const int threads = num_threads();
  for (const KernelTable<float>* table : kernels::all_cpu_tables()) {
    CAPTURE(std::string(table->name));
    std::vector<Guarded<float>> first, outputs;
    for (int n : {1, 2, 7}) {
      set_num_threads(n);
      outputs.clear();
      for (int64_t size : sizes) outputs.emplace_back(size, kNaN);
      body(*table, outputs);
      for (size_t i = 0; i < outputs.size(); ++i) {
        REQUIRE(outputs[i].ok());
        if (n == 1) continue;
        REQUIRE(std::memcmp(outputs[i].data(), first[i].data(), size_t(sizes[i]) * sizeof(float)) == 0);
      }
      if (n == 1) first = outputs;
    }
    set_num_threads(threads);
    check(outputs);
  }
}

}  // namespace weft::test
