#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

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

// Value and slope at these points, computed with mpmath at 300 digits from the textbook formulas.
constexpr double points[5] = {-12, -3, -0.5, 0.75, 2.5};
struct Known {
  Activation act;
  double value[5], slope[5];
};
// clang-format off
const Known known[] = {
    {Activation::elu, {-0.99999385578764667, -0.95021293163213606, -0.39346934028736658, 0.75, 2.5}, {6.1442123533282098e-6, 0.049787068367863943, 0.60653065971263342, 1.0, 1.0}},
    {Activation::gelu, {-2.1317785344932148e-32, -0.0040496940948902836, -0.15426876936299345, 0.58002948571734885, 2.4844758366855597}, {-2.5578956616748956e-31, -0.011945647204183927, 0.13250487534383716, 0.9992257217392351, 1.0376110859081452}},
    {Activation::gelu_tanh, {-1.6359854493534811e-61, -0.0036373920817730188, -0.15428599017485608, 0.5799605551656203, 2.4849157339100014}, {-5.2904033525225585e-60, -0.011584166630969726, 0.13263009646535769, 0.9989382561374143, 1.0379515762126662}},
    {Activation::identity, {-12.0, -3.0, -0.5, 0.75, 2.5}, {1.0, 1.0, 1.0, 1.0, 1.0}},
    {Activation::leaky_relu, {-0.12, -0.03, -0.005, 0.75, 2.5}, {0.01, 0.01, 0.01, 1.0, 1.0}},
    {Activation::mish, {-7.3730321731865865e-5, -0.14564746127562459, -0.22074377465173, 0.61001833521829339, 2.4713923045578811}, {-6.7585901746137732e-5, -0.093393114532320836, 0.28951067791351219, 0.98575835571668806, 1.0411295301313532}},
    {Activation::relu, {0.0, 0.0, 0.0, 0.75, 2.5}, {0.0, 0.0, 0.0, 1.0, 1.0}},
    {Activation::sigmoid, {6.1441746022147178e-6, 0.047425873177566781, 0.37754066879814544, 0.67917869917539297, 0.92414181997875645}, {6.1441368513331753e-6, 0.045176659730912133, 0.23500371220159449, 0.21789499376181403, 0.070103716545108157}},
    {Activation::silu, {-7.3730095226576614e-5, -0.14227761953270034, -0.18877033439907272, 0.50938402438154473, 2.3103545499468911}, {-6.7585467613783386e-5, -0.088104106015169617, 0.26003881269734819, 0.8425999444967535, 1.0994011113415268}},
    {Activation::softplus, {6.1441934777328054e-6, 0.048587351573742059, 0.47407698418010668, 1.1368710061148999, 2.5788897342925496}, {6.1441746022147178e-6, 0.047425873177566781, 0.37754066879814544, 0.67917869917539297, 0.92414181997875645}},
    {Activation::tanh, {-0.99999999992449731, -0.99505475368673045, -0.46211715726000976, 0.63514895238728732, 0.98661429815143029}, {1.510053817597626e-10, 0.0098660371654401913, 0.78644773296592741, 0.59658580828133143, 0.02659222668316062}},
};
// clang-format on

/// Limits of value and slope at -inf and +inf.
struct Limits {
  Activation act;
  double value_below, value_above, slope_below, slope_above;
};
const Limits limits[] = {
    {Activation::identity, -inf, inf, 1, 1}, {Activation::leaky_relu, -inf, inf, 0.01, 1},
    {Activation::relu, 0, inf, 0, 1},        {Activation::elu, -1, inf, 0, 1},
    {Activation::gelu, 0, inf, 0, 1},        {Activation::gelu_tanh, 0, inf, 0, 1},
    {Activation::mish, 0, inf, 0, 1},        {Activation::silu, 0, inf, 0, 1},
    {Activation::softplus, 0, inf, 0, 1},    {Activation::sigmoid, 0, 1, 0, 0},
    {Activation::tanh, -1, 1, 0, 0},
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
  for (const Known& k : known)
    for (int i = 0; i < 5; ++i) {
      CAPTURE(activation_name(k.act));
      CAPTURE(points[i]);
      // 1 + erf(x) loses digits below 0, in PyTorch's GELU too; all others keep theirs at -12.
      const double absolute = k.act == Activation::gelu ? 1e-15 : 0;
      CHECK(std::abs(value(k.act, points[i]) - k.value[i]) <= absolute + 1e-13 * std::abs(k.value[i]));
      CHECK(std::abs(slope(k.act, points[i]) - k.slope[i]) <= absolute + 1e-13 * std::abs(k.slope[i]));
      const double float_error = std::abs(double(value(k.act, float(points[i]))) - k.value[i]);
      const double float_slope_error = std::abs(double(slope(k.act, float(points[i]))) - k.slope[i]);
      const double float_absolute = k.act == Activation::gelu ? 1e-6 : 1e-37;
      CHECK(float_error <= float_absolute + 1e-5 * std::abs(k.value[i]));
      CHECK(float_slope_error <= float_absolute + 1e-5 * std::abs(k.slope[i]));
    }
}

TEST_CASE("slopes are the central differences of the values") {
  constexpr double h = 1e-5;
  for (Activation act : all_activations())
    for (double param : {activation_default_param(act), 0.3})
      for (double x = -9.97; x < 30; x += 0.21) {  // never within h of the kinks at 0
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
  }
}

TEST_CASE_TEMPLATE("activations reach their limits at infinity", T, float, double) {
  for (const Limits& l : limits) {
    CAPTURE(activation_name(l.act));
    CHECK(value(l.act, T(-inf)) == T(l.value_below));
    CHECK(value(l.act, T(inf)) == T(l.value_above));
    CHECK(slope(l.act, T(-inf)) == T(l.slope_below));
    CHECK(slope(l.act, T(inf)) == doctest::Approx(l.slope_above).epsilon(1e-15));
    // The largest finite numbers do not overflow on the way.
    const T largest = std::numeric_limits<T>::max();
    CHECK(slope(l.act, -largest) == T(l.slope_below));
    CHECK(slope(l.act, largest) == doctest::Approx(l.slope_above).epsilon(1e-15));
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
