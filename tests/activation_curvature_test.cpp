// Second derivatives of the activations, taken by dual numbers from their slopes.
#include <doctest/doctest.h>

#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

#include "golden/activation_values.h"
#include "weft/kernels/kernels.h"

using namespace weft;
using kernels::reference;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

std::vector<Activation> all_activations() {
  std::vector<Activation> all;
  for (int i = 0; i < kActivationCount; ++i) all.push_back(Activation(i));
  return all;
}

template <class T>
T curvature(Activation act, T x, double param) {
  T z;
  const T one = 1;
  reference<T>().activation_curvature(act, T(param), 1, &x, &one, &z);
  return z;
}
template <class T>
T curvature(Activation act, T x) {
  return curvature(act, x, activation_default_param(act));
}

std::vector<double> widen(const std::vector<float>& v) { return {v.begin(), v.end()}; }

/// Points all over the line, its ends and a NaN.
std::vector<float> line() {
  std::vector<float> x;
  for (double v = -120; v <= 120; v += 0.0078125) x.push_back(float(v));
  for (double v = 1e-40; v < 3e38; v *= 1.7) {
    x.push_back(float(v));
    x.push_back(float(-v));
  }
  for (float end : {3.4e38f, std::numeric_limits<float>::max(), float(kInf)}) {
    x.push_back(end);
    x.push_back(-end);
  }
  x.push_back(float(kNotANumber));
  return x;
}

/// Elements that are not within `bound` of a number, or not NaN where it is.
template <class T>
int wrong(const std::vector<T>& found, const std::vector<double>& expected, double bound) {
  int count = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double difference = std::abs(double(found[i]) - expected[i]);
    const bool right =
        std::isnan(expected[i]) ? std::isnan(found[i]) : difference <= bound * (1 + std::abs(expected[i]));
    if (!right) {
      MESSAGE("element ", i, ": ", double(found[i]), " instead of ", expected[i]);
      ++count;
    }
  }
  return count;
}

}  // namespace

TEST_CASE("activations have the known curvatures") {
  CHECK(std::size(kKnownActivations) == kActivationCount);
  for (const KnownActivation& k : kKnownActivations)
    for (size_t i = 0; i < std::size(kActivationPoints); ++i) {
      CAPTURE(k.name);
      CAPTURE(kActivationPoints[i]);
      const Activation act = *find_activation(k.name);
      const double x = kActivationPoints[i], known = k.curvature[i];
      CHECK(std::abs(curvature(act, x) - known) <= 1e-16 + 1e-13 * std::abs(known));
      CHECK(std::abs(double(curvature(act, float(x))) - known) <= 1e-7 + 1e-5 * std::abs(known));
      CHECK(activation_curvature(act, x) == curvature(act, x));
      CHECK(std::abs(activation_slope(act, x) - k.slope[i]) <= 1e-14);
      CHECK(std::abs(activation_value(act, x) - k.value[i]) <= 1e-14);
    }
}

TEST_CASE("curvatures are the central differences of the slopes") {
  constexpr double h = 1e-5;
  for (Activation act : all_activations())
    for (double param : {activation_default_param(act), 0.3})
      for (double x = -9.9713; x < 30; x += 0.0731) {
        bool kink = false;
        for (double at : {0.0, 1.0, 2.0, 3.0, 6.0, param})
          kink = kink || std::abs(std::abs(x) - std::abs(at)) < 1e-4;
        if (kink) continue;
        CAPTURE(activation_name(act));
        CAPTURE(x);
        const double difference =
            (activation_slope(act, x + h, param) - activation_slope(act, x - h, param)) / (2 * h);
        CHECK(std::abs(curvature(act, x, param) - difference) < 2e-9);
      }
}

TEST_CASE_TEMPLATE("activations are straight at infinity, and a NaN stays a NaN", T, float, double) {
  for (Activation act : all_activations()) {
    CAPTURE(activation_name(act));
    CHECK(curvature(act, T(kInf)) == 0);
    if (act == Activation::sine_relu)
      CHECK(std::isnan(curvature(act, T(-kInf))));
    else
      CHECK(curvature(act, T(-kInf)) == 0);
    CHECK(std::isnan(curvature(act, T(kNotANumber))));
    const T largest = std::numeric_limits<T>::max();
    CHECK(curvature(act, largest) == 0);
    if (act != Activation::sine_relu) CHECK(curvature(act, -largest) == 0);
  }
}

TEST_CASE("curvatures at corners are one-sided") {
  for (double zero : {0.0, -0.0}) {
    for (Activation flat : {Activation::relu, Activation::leaky_relu, Activation::relu6, Activation::hardtanh,
                            Activation::tanh, Activation::hardshrink})
      CHECK(curvature(flat, zero) == 0);
    // The side whose slope is taken.
    CHECK(curvature(Activation::elu, zero, 0.3) == 0.3);
    CHECK(curvature(Activation::celu, zero, 0.5) == 2);
    CHECK(curvature(Activation::ftswish, zero) == 0.5);
    CHECK(curvature(Activation::elish, zero) == 0.5);
    // From below, where both have the same slope.
    CHECK(curvature(Activation::softsign, zero) == 2);
    CHECK(curvature(Activation::sqnl, zero) == 0.5);
    // Written with |x|, but smooth.
    CHECK(curvature(Activation::softplus, zero) == 0.25);
    CHECK(curvature(Activation::logsigmoid, zero) == -0.25);
    CHECK(curvature(Activation::silu, zero) == 0.5);
    CHECK(curvature(Activation::sigmoid, zero) == 0);
    CHECK(curvature(Activation::mish, zero) == doctest::Approx(0.64).epsilon(1e-15));
  }
  CHECK(std::abs(curvature(Activation::soft_clipping, 0.5)) < 1e-16);  // its middle
  for (double end : {-2.0, 2.0}) CHECK(curvature(Activation::sqnl, end) == 0);
  for (double end : {-1.0, 1.0}) CHECK(curvature(Activation::hard_elish, end) == 0);
  for (double end : {-3.0, 3.0}) CHECK(curvature(Activation::hardswish, end) == 0);
}

TEST_CASE("curvature in float agrees with double over the whole line, on every instruction set") {
  const std::vector<float> x = line(), ones(x.size(), 1.0f);
  const int64_t n = int64_t(x.size());
  for (Activation act : all_activations()) {
    CAPTURE(activation_name(act));
    const float param = float(activation_default_param(act));
    std::vector<double> expected(x.size());
    reference<double>().activation_curvature(act, double(param), n, widen(x).data(), widen(ones).data(),
                                             expected.data());
    for (const auto* table : kernels::all_cpu_tables()) {
      CAPTURE(table->name);
      std::vector<float> z(x.size(), 7.0f);
      table->activation_curvature(act, param, n, x.data(), ones.data(), z.data());
      CHECK(wrong(z, expected, 2e-6) == 0);
    }
  }
}

TEST_CASE("curvature at every length, weighted, and in place") {
  for (Activation act : all_activations())
    for (int64_t n : {1, 5, 17, 16390}) {
      CAPTURE(activation_name(act));
      CAPTURE(n);
      const float param = float(activation_default_param(act));
      std::vector<float> x, w;
      for (int64_t i = 0; i < n; ++i) {
        x.push_back(float(std::sin(double(3 * i + 1)) * 4));
        w.push_back(float(std::cos(double(5 * i + 2))));
      }
      std::vector<double> expected(x.size());
      reference<double>().activation_curvature(act, double(param), n, widen(x).data(), widen(w).data(),
                                               expected.data());
      for (const auto* table : kernels::all_cpu_tables()) {
        CAPTURE(table->name);
        std::vector<float> z(x.size() + 1, 7.0f), in_place = w;
        table->activation_curvature(act, param, n, x.data(), w.data(), z.data());
        CHECK(z.back() == 7.0f);
        z.pop_back();
        CHECK(wrong(z, expected, 2e-6) == 0);
        table->activation_curvature(act, param, n, x.data(), in_place.data(), in_place.data());
        CHECK(in_place == z);
      }
    }
}
