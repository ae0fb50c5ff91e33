// For tests of the CUDA kernels: arrays on the device, rounding to T, and the distance from the oracle, which
// is the reference in double on the same rounded inputs.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "weft/kernels/cuda.h"

namespace weft::test {

/// An array on the device, as many bytes as asked for into an allocation. Floating-point elements are NaN at
/// first, others negative.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t size, int64_t skip = 0) : size_(size), skip_(skip) {
    memory_ = static_cast<T*>(kernels::cuda::allocate(int64_t(sizeof(T)) * (size + skip)));
    REQUIRE(memory_ != nullptr);
    upload(std::vector<T>(size_t(size), poison()));
  }
  /// `skip` elements into the allocation, so that it's less aligned.
  explicit DeviceArray(const std::vector<T>& values, int64_t skip = 0)
      : DeviceArray(int64_t(values.size()), skip) {
    upload(values);
  }
  ~DeviceArray() { kernels::cuda::release(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() { return memory_ + skip_; }
  void upload(const std::vector<T>& values) {
    if (size_ > 0) kernels::cuda::upload(data(), values.data(), int64_t(sizeof(T)) * size_);
  }
  std::vector<T> host() {
    std::vector<T> values(static_cast<size_t>(size_));
    if (size_ > 0) kernels::cuda::download(values.data(), data(), int64_t(sizeof(T)) * size_);
    return values;
  }

 private:
  static T poison() {
    if constexpr (std::is_integral_v<T>)
      return T(-77);
    else
      return T(std::numeric_limits<float>::quiet_NaN());
  }
  int64_t size_, skip_;
  T* memory_ = nullptr;
};

/// A seed that differs each time, or that WEFT_TEST_SEED gives.
inline uint64_t new_seed() {
  const char* given = std::getenv("WEFT_TEST_SEED");
  return given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

/// Random numbers from a new seed.
class Random {
 public:
  Random() : seed_(new_seed()), generator_(seed_) {}
  std::string seed() const { return "WEFT_TEST_SEED=" + std::to_string(seed_); }
  int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(generator_); }
  /// n normal numbers, rounded to T.
  template <class T>
  std::vector<T> normal(int64_t n, double mean = 0, double deviation = 1) {
    std::normal_distribution<double> distribution(mean, deviation);
    std::vector<T> values;
    for (int64_t i = 0; i < n; ++i) values.push_back(T(distribution(generator_)));
    return values;
  }
  /// n numbers between low and high, rounded to T.
  template <class T>
  std::vector<T> uniform(int64_t n, double low, double high) {
    std::uniform_real_distribution<double> distribution(low, high);
    std::vector<T> values;
    for (int64_t i = 0; i < n; ++i) values.push_back(T(distribution(generator_)));
    return values;
  }

 private:
  uint64_t seed_;
  std::mt19937_64 generator_;
};

template <class T>
std::vector<double> to_double(const std::vector<T>& values) {
  std::vector<double> wide;
  for (const T& v : values) wide.push_back(double(v));
  return wide;
}

/// |actual - expected| / |expected|, where the mean square of `expected` counts as no less than 0.01: values
/// are to be around 1, and a few may cancel. NaN in both is no difference, in one of them an infinite one.
template <class T>
double distance(const std::vector<T>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double a = double(actual[i]), e = expected[i];
    if (a == e || (std::isnan(a) && std::isnan(e))) {
      if (std::isfinite(e)) norm += e * e;
      continue;
    }
    if (!std::isfinite(a) || !std::isfinite(e)) return std::numeric_limits<double>::infinity();
    difference += (a - e) * (a - e);
    norm += e * e;
  }
  return difference == 0 ? 0 : std::sqrt(difference / std::max(norm, 0.01 * double(expected.size())));
}

/// How far results that were rounded to T may lie from the oracle's.
template <class T>
constexpr double kTolerance = sizeof(T) == 2 ? 1e-2 : 1e-5;

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t byte = 0; byte < sizeof(T); ++byte)
      if (reinterpret_cast<const char*>(&a[i])[byte] != reinterpret_cast<const char*>(&b[i])[byte])
        return false;
  return true;
}

}  // namespace weft::test
