// The yardstick of the activations in float, and that it measures.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "weft/apps/weft/certify.h"
#include "weft/kernels/certify.h"
#include "weft/kernels/initial_activation.h"

using namespace weft;
using namespace weft::kernels;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

/// Every 9973rd float; the number of them is a multiple of 16.
std::vector<float> some_floats() {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 9973)
    x.push_back(std::bit_cast<float>(uint32_t(bits)));
  while (x.size() % 16) x.push_back(float(kInf));
  return x;
}

Deviation compare(double exact, float found, double least = kSmallest) {
  std::vector<double> e(32, 1.0);
  std::vector<float> f(32, 1.0f);
  e[21] = exact;
  f[21] = found;
  const Deviation d = certifier().compare(32, e.data(), f.data(), least);
  for (int number = 1; const Certifier* other = certifier(number); ++number) {
    const Deviation same = other->compare(32, e.data(), f.data(), least);
    CHECK(same.ulp == d.ulp);
    CHECK(same.absolute == d.absolute);
    CHECK(same.at == d.at);
    CHECK(same.nan_at == d.nan_at);
  }
  return d;
}

/// Value and slope by the plain loops in double, with the parameters that the kernels in float get.
void evaluate_plainly(Activation act, const float* parameters, int64_t n, const double* x,
                      std::vector<double> (&y)[2]) {
  const std::vector<double> ones(size_t(n), 1.0);
  if (is_fixed(act)) {
    reference<double>().activation(act, double(parameters[0]), n, x, y[0].data());
    reference<double>().activation_backward(act, double(parameters[0]), n, x, ones.data(), y[1].data());
    return;
  }
  double wide[kMostLearnedParameters], gradients[kMostLearnedParameters], *to[kMostLearnedParameters];
  LearnedActivationArgs<double> args{.activation = act, .rows = n, .channels = 1, .x = x};
  for (int k = 0; k < kMostLearnedParameters; ++k) {
    wide[k] = double(parameters[k]);
    args.parameters[k] = &wide[k];
    to[k] = &gradients[k];
  }
  reference<double>().learned_activation(args, y[0].data());
  reference<double>().learned_activation_backward(args, ones.data(), y[1].data(), to);
}

}  // namespace

TEST_CASE("an activation as it is before training") {
  CHECK(initial_value(Activation::prelu, -2) == -0.5);
  CHECK(initial_slope(Activation::prelu, -2) == 0.25);
  CHECK(initial_slope(Activation::prelu, 2) == 1);
  CHECK(initial_value(Activation::srelu, -2) == -0.4);
  CHECK(initial_slope(Activation::srelu, -2) == 0.2);
  CHECK(initial_value(Activation::srelu, 3) == 3);
  CHECK(initial_value(Activation::rrelu, -48) == doctest::Approx(-11).epsilon(1e-15));
  CHECK(initial_slope(Activation::rrelu, -48) == doctest::Approx(11.0 / 48).epsilon(1e-15));
  CHECK(initial_value(Activation::leaky_relu, -1) == -0.01);
  for (double x : {-7.0, -1.0, 0.0, 0.3, 5.0}) {  // with beta = 1 it is silu
    CHECK(initial_value(Activation::swish_beta, x) == doctest::Approx(activation_value(Activation::silu, x)));
    CHECK(initial_slope(Activation::swish_beta, x) == doctest::Approx(activation_slope(Activation::silu, x)));
    CHECK(initial_curvature(Activation::swish_beta, x) ==
          doctest::Approx(activation_curvature(Activation::silu, x)));
    CHECK(initial_curvature(Activation::mish, x) == activation_curvature(Activation::mish, x));
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (int i = 0; i < kAllActivationCount; ++i) {
    CAPTURE(activation_name(Activation(i)));
    CHECK(std::isnan(initial_value(Activation(i), nan)));
    CHECK(std::isnan(initial_curvature(Activation(i), nan)));
    const double h = 1e-6, x = -0.7;
    CHECK(
        initial_slope(Activation(i), x) ==
        doctest::Approx((initial_value(Activation(i), x + h) - initial_value(Activation(i), x - h)) / (2 * h))
            .epsilon(1e-7));
    CHECK(
        initial_curvature(Activation(i), x) ==
        doctest::Approx((initial_slope(Activation(i), x + h) - initial_slope(Activation(i), x - h)) / (2 * h))
            .epsilon(1e-7));
  }
}

TEST_CASE("the yardstick in double is the activation in double, on every instruction set") {
  const std::vector<float> x = some_floats();
  const std::vector<double> wide(x.begin(), x.end());
  const int64_t n = int64_t(x.size());
  for (int i = 0; i < kAllActivationCount; ++i) {
    const InitialActivation initial = initial_activation(Activation(i));
    const Activation act = initial.activation;
    const std::vector<float> parameters(std::begin(initial.parameters), std::end(initial.parameters));
    std::vector<double> expected[2] = {std::vector<double>(x.size()), std::vector<double>(x.size())};
    evaluate_plainly(act, parameters.data(), n, wide.data(), expected);
    for (int number = 0; const Certifier* c = certifier(number); ++number) {
      std::vector<double> found[2] = {std::vector<double>(x.size()), std::vector<double>(x.size())};
      c->evaluate(act, parameters.data(), n, x.data(), found[0].data(), found[1].data());
      for (size_t part : {0, 1}) {
        const auto crossings = app::find_crossings(Activation(i), part == 1);
        double worst = 0;
        size_t at = 0;
        int nans = 0;
        for (size_t k = 0; k < x.size(); ++k) {
          const double e = expected[part][k], f = found[part][k];
          nans += std::isnan(e) != std::isnan(f);
          if (e == f || std::isnan(e)) continue;
          double size = std::max(std::abs(e), kSmallest);
          for (const auto& crossing : crossings)
            if (x[k] >= crossing.low && x[k] <= crossing.high) size = std::max(size, crossing.least);
          const double error = std::abs(f - e) / size;
          if (error > worst) worst = error, at = k;
        }
        CAPTURE(activation_name(Activation(i)));
        CAPTURE(c->name);
        CAPTURE(part);
        CAPTURE(x[at]);
        CAPTURE(expected[part][at]);
        CAPTURE(found[part][at]);
        CHECK(worst < 1e-12);
        CHECK(nans == 0);
      }
    }
  }
}

TEST_CASE("errors are counted in units in the last place") {
  CHECK(compare(1, 1).ulp == 0);
  CHECK(compare(1, 1 + 0x1p-23f).ulp == 1);
  CHECK(compare(1, 1 + 0x1p-23f).absolute == 0x1p-23);
  CHECK(compare(1, 1 + 0x1p-23f).at == 21);
  CHECK(compare(1, 1 - 0x1p-24f).ulp == 0.5);
  CHECK(compare(1 - 0x1p-24, 1).ulp == 1);  // the binade of the exact one counts
  CHECK(compare(-1.5, -1.5f - 0x1p-23f).ulp == 1);
  CHECK(compare(0x1.fffp127, 0x1.ffep127f).ulp == 0x1p11);
  CHECK(compare(0x1p-100, 0).ulp == 0x1p23);
  CHECK(compare(kSmallest, 0).ulp == 0x1p23);
  CHECK(compare(kSmallest / 2, 0).ulp == 0x1p22);
  CHECK(compare(0, float(kSmallest)).ulp == 0x1p23);
  CHECK(compare(0x1p-20, 0, 0.25).ulp == 0x1p5);
  CHECK(compare(1, 1 + 0x1p-23f, 0.25).ulp == 1);
}

TEST_CASE("infinities and NaN must agree") {
  constexpr float inf = float(kInf), nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(compare(kInf, inf).ulp == 0);
  CHECK(compare(1e39, inf).ulp == 0);  // too large for a float
  CHECK(compare(-1e39, -inf).ulp == 0);
  CHECK(compare(0x1.fffffep127, inf).ulp == 1);  // a matter of rounding
  CHECK(compare(0x1.ffffffp127, 0x1.fffffep127f).ulp == 0.5);
  CHECK(compare(0x1.ffffdap127, inf).ulp == kInf);  // 19 ulp
  CHECK(compare(-0x1.ffffdap127, -inf).ulp == kInf);
  CHECK(compare(1, inf).ulp == kInf);
  CHECK(compare(kInf, 3e38f).ulp == kInf);
  CHECK(compare(1e39, 3e38f).ulp == kInf);
  CHECK(compare(kInf, -inf).ulp == kInf);
  CHECK(compare(kInf, inf).nan_at == -1);
  CHECK(compare(double(nan), nan).nan_at == -1);
  CHECK(compare(double(nan), 1).nan_at == 21);
  CHECK(compare(1, nan).nan_at == 21);
  CHECK(compare(1, nan).ulp == 0);
}

TEST_CASE("zeros of values and slopes are found") {
  const auto zeros = app::find_crossings;
  CHECK(zeros(Activation::mish, false).empty());
  CHECK(zeros(Activation::relu, true).empty());
  CHECK(zeros(Activation::hardshrink, false).empty());
  CHECK(zeros(Activation::identity, false).empty());
  const auto mish = zeros(Activation::mish, true);
  REQUIRE(mish.size() == 1);
  CHECK(mish[0].low < -1.19);  // the minimum of mish is at -1.1924
  CHECK(mish[0].low > -1.35);
  CHECK(mish[0].high > -1.19);
  CHECK(mish[0].high < -1.04);
  CHECK(mish[0].least > 0.02);
  CHECK(mish[0].least < 0.1);
  const auto hardswish = zeros(Activation::hardswish, true);
  REQUIRE(hardswish.size() == 1);
  CHECK(hardswish[0].low == doctest::Approx(-1.5 * 9 / 8).epsilon(1e-3));
  const auto sine = zeros(Activation::sine_relu, false);
  REQUIRE(sine.size() == 1);
  CHECK(sine[0].low == -kInf);
  CHECK(sine[0].least == doctest::Approx(0.001 * std::sqrt(2.0)).epsilon(1e-3));
}

namespace {

/// The rows of the table in docs/numerics.md: what weft lab activations --certify prints.
struct Bounds {
  std::map<std::string, double> value, slope;  // of each instruction set
};
std::map<std::string, Bounds> documented_bounds() {
  std::ifstream in(std::string(WEFT_TEST_DIR) + "/../docs/numerics.md");
  REQUIRE(in.good());
  std::map<std::string, Bounds> rows;
  std::vector<std::string> isas;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::vector<std::string> all;
    for (std::string word; words >> word;) all.push_back(word);
    if (line.find("worst at") != std::string::npos && line.find("  |") != std::string::npos) {
      for (const std::string& word : all) {
        if (word == "worst") break;
        isas.push_back(word);
      }
    } else if (!isas.empty() && line.rfind("```", 0) == 0) {
      break;
    } else if (!isas.empty()) {
      const size_t bar = size_t(std::find(all.begin(), all.end(), "|") - all.begin());
      REQUIRE(bar > isas.size());
      REQUIRE(bar + isas.size() < all.size());
      for (size_t i = 0; i < isas.size(); ++i) {
        rows[all[0]].value[isas[i]] = std::stod(all[1 + i]);
        rows[all[0]].slope[isas[i]] = std::stod(all[bar + 1 + i]);
      }
    }
  }
  return rows;
}

double worst(const std::map<std::string, double>& errors) {
  double most = 0;
  for (const auto& [isa, error] : errors) most = std::max(most, error);
  return most;
}

}  // namespace

TEST_CASE("the documented errors bound those at every 50021st float") {
  const auto rows = documented_bounds();
  CHECK(rows.size() >= 43);
  std::vector<const KernelTable<float>*> tables;
  for (const auto* table : all_cpu_tables())
    if (table->name != std::string("reference")) tables.push_back(table);
  for (int i = 0; i < kAllActivationCount; ++i) {
    const std::string name(activation_name(Activation(i)));
    CAPTURE(name);
    const auto found = app::certify(Activation(i), tables, 50021, [](int64_t, int64_t) { return true; });
    REQUIRE(found.size() == tables.size());
    for (const app::Certificate& c : found) {
      CAPTURE(c.table->name);
      CAPTURE(c.value.at);
      CAPTURE(c.slope.at);
      CHECK(c.value.nan_blocks == 0);
      CHECK(c.slope.nan_blocks == 0);
      CHECK(std::isfinite(c.value.ulp));
      CHECK(std::isfinite(c.slope.ulp));
      // A new activation, and NEON, may not be in the table yet.
      if (!rows.count(name) || !rows.at(name).value.count(c.table->name)) continue;
      const Bounds& row = rows.at(name);
      // Half an ulp and a percent for another compiler's roundings; and one that fuses no multiplication with
      // an addition rounds on any instruction set as on the worst one.
      CHECK(c.value.ulp <= worst(row.value) * 1.01 + 0.5);
      CHECK(c.slope.ulp <= worst(row.slope) * 1.01 + 0.5);
    }
  }
}

TEST_CASE("a sweep tells how far it is, and stops when asked to") {
  int calls = 0;
  const auto found = app::certify(Activation::relu, {&cpu()}, 997, [&](int64_t done, int64_t of) {
    CHECK(done <= of);
    return ++calls < 1;
  });
  CHECK(calls == 1);
  CHECK(found.empty());
}
