#include <doctest/doctest.h>

#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "golden/activation_values.h"
#include "weft/kernels/activation_list.h"
#include "weft/kernels/dual.h"
#include "weft/kernels/kernels.h"

using namespace weft;
using kernels::reference;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

std::vector<Activation> all_activations() {
  std::vector<Activation> all;
  for (int i = 0; i < kActivationCount; ++i) all.push_back(Activation(i));
  return all;
}

template <class T>
T value(Activation act, T x, double param) {
  T y;
  reference<T>().activation(act, T(param), 1, &x, &y);
  return y;
}
template <class T>
T value(Activation act, T x) {
  return value(act, x, activation_default_param(act));
}

template <class T>
T slope(Activation act, T x, double param) {
  T dx;
  const T one = 1;
  reference<T>().activation_backward(act, T(param), 1, &x, &one, &dx);
  return dx;
}
template <class T>
T slope(Activation act, T x) {
  return slope(act, x, activation_default_param(act));
}

/// Where some activation has no slope, or one that jumps.
bool near_kink(double x, double param) {
  for (double kink : {0.0, 1.0, 2.0, 3.0, 6.0, param})
    if (std::abs(std::abs(x) - std::abs(kink)) < 1e-4) return true;
  return false;
}

/// Limits of value and slope at -inf and +inf.
struct Limits {
  Activation act;
  double value_below, value_above, slope_below, slope_above;
};
const Limits limits[] = {
    {Activation::aria2, 0, 1, 0, 0},
    {Activation::bent_identity, -inf, inf, 0.5, 1.5},
    {Activation::celu, -1, inf, 0, 1},
    {Activation::elish, 0, inf, 0, 1},
    {Activation::elu, -1, inf, 0, 1},
    {Activation::eswish, 0, inf, 0, 1.75},
    {Activation::ftswish, -0.2, inf, 0, 1},
    {Activation::gelu, 0, inf, 0, 1},
    {Activation::gelu_tanh, 0, inf, 0, 1},
    {Activation::hard_elish, 0, inf, 0, 1},
    {Activation::hard_mish, 0, inf, 0, 1},
    {Activation::hardshrink, -inf, inf, 1, 1},
    {Activation::hardsigmoid, 0, 1, 0, 0},
    {Activation::hardswish, 0, inf, 0, 1},
    {Activation::hardtanh, -1, 1, 0, 0},
    {Activation::identity, -inf, inf, 1, 1},
    {Activation::isrlu, -1, inf, 0, 1},
    {Activation::isru, -1, 1, 0, 0},
    {Activation::leaky_relu, -inf, inf, 0.01, 1},
    {Activation::lecun_tanh, -1.7159, 1.7159, 0, 0},
    {Activation::logsigmoid, -inf, 0, 1, 0},
    {Activation::mish, 0, inf, 0, 1},
    {Activation::penalized_tanh, -0.25, 1, 0, 0},
    {Activation::relu, 0, inf, 0, 1},
    {Activation::relu6, 0, 6, 0, 0},
    {Activation::selu, -1.7580993408473766, inf, 0, 1.0507009873554805},
    {Activation::sigmoid, 0, 1, 0, 0},
    {Activation::silu, 0, inf, 0, 1},
    {Activation::sine_relu, not_a_number, inf, not_a_number, 1},
    {Activation::soft_clipping, 0, 1, 0, 0},
    {Activation::softplus, 0, inf, 0, 1},
    {Activation::softshrink, -inf, inf, 1, 1},
    {Activation::softsign, -1, 1, 0, 0},
    {Activation::sqnl, -1, 1, 0, 0},
    {Activation::tanh, -1, 1, 0, 0},
    {Activation::tanhexp, 0, inf, 0, 1},
    {Activation::tanhshrink, -inf, inf, 1, 1},
    {Activation::thresholded_relu, 0, inf, 0, 1},
    {Activation::weighted_tanh, -1, 1, 0, 0},
};

}  // namespace

TEST_CASE("activations are found by name") {
  for (Activation act : all_activations()) {
    const auto found = find_activation(activation_name(act));
    REQUIRE(found.has_value());
    CHECK(*found == act);
  }
  CHECK(activation_name(Activation::gelu_tanh) == "gelu_tanh");
  CHECK(Activation{} == Activation::identity);
  CHECK_FALSE(find_activation("no_such_activation").has_value());
  CHECK(activation_default_param(Activation::leaky_relu) == 0.01);
  CHECK(activation_default_param(Activation::elu) == 1);
}

TEST_CASE("activations have the known values and slopes") {
  CHECK(std::size(kKnownActivations) == kActivationCount);
  for (const KnownActivation& k : kKnownActivations)
    for (size_t i = 0; i < std::size(kActivationPoints); ++i) {
      CAPTURE(k.name);
      CAPTURE(kActivationPoints[i]);
      REQUIRE(find_activation(k.name));
      const Activation act = *find_activation(k.name);
      const double x = kActivationPoints[i];
      CHECK(std::abs(value(act, x) - k.value[i]) <= 1e-13 * std::abs(k.value[i]));
      CHECK(std::abs(slope(act, x) - k.slope[i]) <= 1e-13 * std::abs(k.slope[i]));
      const double float_error = std::abs(double(value(act, float(x))) - k.value[i]);
      const double float_slope_error = std::abs(double(slope(act, float(x))) - k.slope[i]);
      CHECK(float_error <= 1e-37 + 1e-5 * std::abs(k.value[i]));
      CHECK(float_slope_error <= 1e-37 + 1e-5 * std::abs(k.slope[i]));
    }
}

TEST_CASE("slopes are the central differences of the values") {
  constexpr double h = 1e-5;
  for (Activation act : all_activations())
    for (double param : {activation_default_param(act), 0.3})
      for (double x = -9.9713; x < 30; x += 0.2171) {
        if (near_kink(x, param)) continue;
        CAPTURE(activation_name(act));
        CAPTURE(x);
        const double difference = (value(act, x + h, param) - value(act, x - h, param)) / (2 * h);
        CHECK(std::abs(slope(act, x, param) - difference) < 1e-8);
      }
}

TEST_CASE("float agrees with double and never overflows") {
  for (Activation act : all_activations())
    for (float x = -200; x <= 200; x += 0.37f) {
      CAPTURE(activation_name(act));
      CAPTURE(x);
      const double y = value(act, double(x)), dy = slope(act, double(x));
      CHECK(std::abs(double(value(act, x)) - y) <= 2e-6 * (1 + std::abs(y)));
      CHECK(std::abs(double(slope(act, x)) - dy) <= 2e-6 * (1 + std::abs(dy)));
    }
}

TEST_CASE("the parameter is the slope of leaky_relu and the alpha of elu") {
  CHECK(value(Activation::leaky_relu, -2.0, 0.25) == -0.5);
  CHECK(slope(Activation::leaky_relu, -2.0, 0.25) == 0.25);
  CHECK(value(Activation::elu, -inf, 0.25) == -0.25);
  CHECK(slope(Activation::elu, 0.0, 0.25) == 0.25);
}

TEST_CASE("slopes at 0 are PyTorch's") {
  for (double zero : {0.0, -0.0}) {
    CHECK(slope(Activation::relu, zero) == 0);
    CHECK(slope(Activation::leaky_relu, zero) == 0.01);
    CHECK(slope(Activation::elu, zero) == 1);
    CHECK(slope(Activation::mish, zero) == doctest::Approx(0.6).epsilon(1e-15));
    CHECK(slope(Activation::silu, zero) == 0.5);
    CHECK(slope(Activation::gelu, zero) == 0.5);
    CHECK(slope(Activation::gelu_tanh, zero) == 0.5);
    CHECK(slope(Activation::sigmoid, zero) == 0.25);
    CHECK(slope(Activation::softplus, zero) == 0.5);
    CHECK(slope(Activation::tanh, zero) == 1);
    for (Activation flat : {Activation::relu6, Activation::hardshrink, Activation::softshrink,
                            Activation::tanhshrink, Activation::thresholded_relu})
      CHECK(slope(flat, zero) == 0);
    CHECK(slope(Activation::celu, zero) == 1);
    CHECK(slope(Activation::selu, zero) == doctest::Approx(1.0507009873554805 * 1.6732632423543772));
    CHECK(slope(Activation::softsign, zero) == 1);
    CHECK(slope(Activation::logsigmoid, zero) == 0.5);
    CHECK(slope(Activation::hardswish, zero) == 0.5);
  }
}

TEST_CASE("slopes at the other kinks are PyTorch's") {
  for (double sign : {-1.0, 1.0}) {
    CHECK(slope(Activation::hardtanh, sign) == 0);
    CHECK(slope(Activation::hardsigmoid, 3 * sign) == 0);
    CHECK(slope(Activation::hardshrink, 0.5 * sign) == 0);
    CHECK(slope(Activation::softshrink, 0.5 * sign) == 0);
    CHECK(value(Activation::hardshrink, 0.5 * sign) == 0);
  }
  CHECK(slope(Activation::relu6, 6.0) == 0);
  CHECK(slope(Activation::hardswish, -3.0) == 0);
  CHECK(slope(Activation::hardswish, 3.0) == 1);
}

TEST_CASE("descriptions are the doc comments") {
  for (Activation act : all_activations()) {
    const std::string name(activation_name(act)), text(activation_description(act));
    CAPTURE(text);
    CHECK(text.rfind(name + "(x) = ", 0) == 0);
    CHECK(text.size() > name.size() + 7);
    CHECK(text.find('\n') == std::string::npos);
  }
}

TEST_CASE_TEMPLATE("activations reach their limits at infinity", T, float, double) {
  CHECK(std::size(limits) == kActivationCount);
  const auto like = [](double expected) { return doctest::Approx(double(T(expected))).epsilon(1e-15); };
  for (const Limits& l : limits) {
    CAPTURE(activation_name(l.act));
    CHECK(value(l.act, T(inf)) == T(l.value_above));
    if (std::isnan(l.value_below)) {  // no limit
      CHECK(std::isnan(value(l.act, T(-inf))));
      CHECK(std::isnan(slope(l.act, T(-inf))));
      continue;
    }
    CHECK(value(l.act, T(-inf)) == T(l.value_below));
    CHECK(slope(l.act, T(-inf)) == T(l.slope_below));
    CHECK(slope(l.act, T(inf)) == like(l.slope_above));
    // The largest finite numbers do not overflow on the way.
    const T largest = std::numeric_limits<T>::max();
    CHECK(slope(l.act, -largest) == T(l.slope_below));
    CHECK(slope(l.act, largest) == like(l.slope_above));
    CHECK_FALSE(std::isnan(value(l.act, -largest)));
    CHECK_FALSE(std::isnan(value(l.act, largest)));
  }
}

TEST_CASE_TEMPLATE("a NaN stays a NaN", T, float, double) {
  for (Activation act : all_activations()) {
    CAPTURE(activation_name(act));
    CHECK(std::isnan(value(act, T(not_a_number))));
    if (act != Activation::identity) CHECK(std::isnan(slope(act, T(not_a_number))));
  }
}

namespace {

/// A float with the GPU's bounded_exp and reciprocal, each as far from the truth as it may be: up or down.
struct Gpu {
  float v;
  static inline double exp_sign = 1, reciprocal_sign = 1;

  template <class T>
  explicit Gpu(T x) : v(float(x)) {}
};
Gpu operator+(Gpu a, Gpu b) { return Gpu(a.v + b.v); }
Gpu operator-(Gpu a, Gpu b) { return Gpu(a.v - b.v); }
Gpu operator*(Gpu a, Gpu b) { return Gpu(a.v * b.v); }
Gpu operator/(Gpu a, Gpu b) { return Gpu(a.v / b.v); }
bool operator<(Gpu a, Gpu b) { return a.v < b.v; }
bool operator>(Gpu a, Gpu b) { return a.v > b.v; }
bool operator>=(Gpu a, Gpu b) { return a.v >= b.v; }
bool operator==(Gpu a, Gpu b) { return a.v == b.v; }
Gpu max(Gpu a, Gpu b) { return a > b ? a : b; }
Gpu min(Gpu a, Gpu b) { return a < b ? a : b; }
Gpu select(bool c, Gpu a, Gpu b) { return c ? a : b; }
#define WEFT_TEST_FUNCTION(f) \
  Gpu f(Gpu a) { return Gpu(std::f(a.v)); }
WEFT_TEST_FUNCTION(abs)
WEFT_TEST_FUNCTION(cos)
WEFT_TEST_FUNCTION(exp)
WEFT_TEST_FUNCTION(expm1)
WEFT_TEST_FUNCTION(log1p)
WEFT_TEST_FUNCTION(sin)
WEFT_TEST_FUNCTION(sqrt)
WEFT_TEST_FUNCTION(tanh)
#undef WEFT_TEST_FUNCTION
Gpu normal_cdf(Gpu x) { return Gpu(kernels::math::normal_cdf(x.v)); }
Gpu normal_density(Gpu x) { return Gpu(kernels::math::normal_density(x.v)); }
Gpu bounded_exp(Gpu x) {
  const float power = x.v * kernels::math::kLog2E;
  const float y = float(std::exp2(double(power)) * (1 + Gpu::exp_sign * 0x1p-22));
  return Gpu(y < 0x1p-126f ? 0 : y);
}
Gpu reciprocal(Gpu x) { return Gpu((1 + Gpu::reciprocal_sign * 0x1p-23) / double(x.v)); }

struct Found {
  double value, slope, curvature;
};
Found on_gpu(Activation act, double x, double param) {
  const Gpu at(x), p(param);
  switch (act) {
#define WEFT_TEST_CASE(name)                                                                               \
  case Activation::name:                                                                                   \
    return {kernels::activations::name::forward(at, p).v, kernels::activations::name::derivative(at, p).v, \
            kernels::math::curvature<kernels::activations::name>(at, p).v};
    WEFT_FOR_EACH_ACTIVATION(WEFT_TEST_CASE)
#undef WEFT_TEST_CASE
    default:
      return {};
  }
}

template <class Body>
void with_each_error(Body&& body) {
  for (const double exp_sign : {-1.0, 1.0})
    for (const double reciprocal_sign : {-1.0, 1.0}) {
      CAPTURE(exp_sign);
      CAPTURE(reciprocal_sign);
      Gpu::exp_sign = exp_sign, Gpu::reciprocal_sign = reciprocal_sign;
      body();
    }
}

}  // namespace

TEST_CASE("the GPU's approximations keep the known values and slopes") {
  with_each_error([] {
    for (const KnownActivation& k : kKnownActivations)
      for (size_t i = 0; i < std::size(kActivationPoints); ++i) {
        CAPTURE(k.name);
        CAPTURE(kActivationPoints[i]);
        const Activation act = *find_activation(k.name);
        const Found found = on_gpu(act, kActivationPoints[i], activation_default_param(act));
        CHECK(std::abs(found.value - k.value[i]) <= 1e-37 + 1e-5 * std::abs(k.value[i]));
        CHECK(std::abs(found.slope - k.slope[i]) <= 1e-37 + 1e-5 * std::abs(k.slope[i]));
        CHECK(std::abs(found.curvature - k.curvature[i]) <= 1e-6 + 1e-5 * std::abs(k.curvature[i]));
      }
  });
}

TEST_CASE("mish on the GPU has the error of its exponential and reciprocal") {
  with_each_error([] {
    for (float x = -120; x < 120; x += 0.0173f) {
      CAPTURE(x);
      const double y = value(Activation::mish, double(x)), dy = slope(Activation::mish, double(x));
      const Found found = on_gpu(Activation::mish, x, 0);
      // Of the exponential, the reciprocal, and five roundings.
      const double relative = 0x1p-22 + 0x1p-23 + (5 + 1.23 * std::abs(x)) * 0x1p-24;
      CHECK(std::abs(found.value - y) <= relative * std::abs(y) + 1e-35);
      CHECK(std::abs(found.slope - dy) <= 1e-6);
    }
  });
}

TEST_CASE("the GPU's approximations keep limits and NaN") {
  with_each_error([] {
    for (const Limits& l : limits) {
      CAPTURE(activation_name(l.act));
      const double param = activation_default_param(l.act);
      const Found none = on_gpu(l.act, not_a_number, param);
      CHECK(std::isnan(none.value));
      CHECK(std::isnan(none.curvature));
      if (l.act != Activation::identity) CHECK(std::isnan(none.slope));
      if (std::isnan(l.value_below)) continue;
      for (const double x : {-inf, inf}) {
        const double v = x < 0 ? l.value_below : l.value_above, s = x < 0 ? l.slope_below : l.slope_above;
        const Found found = on_gpu(l.act, x, param);
        if (std::isinf(v))
          CHECK(found.value == v);
        else
          CHECK(std::abs(found.value - v) <= 1e-6);
        CHECK(std::abs(found.slope - s) <= 1e-6);
        CHECK(found.curvature == 0);
      }
    }
  });
}
