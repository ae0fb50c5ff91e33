// The functions that optimizers' formulas are made of, against the standard library's; and centralised
// gradients against their definition.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "support/golden.h"
#include "weft/kernels/updates/vector_math.h"
#include "weft/optim/centralize.h"
#include "weft/optim/multi_tensor.h"
#include "weft/optim/optimizers/adam.h"
#include "weft/optim/optimizers/diffgrad.h"
#include "weft/optim/optimizers/madgrad.h"

using namespace weft;
using namespace weft::kernels::updates;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Calls body on positive normal floats all over their range.
template <class Body>
void for_floats(const Body& body) {
  for (uint32_t bits = 0x00800000u; bits < 0x7f800000u; bits += 9973) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    body(x);
  }
}

}  // namespace

TEST_CASE("vector_exp2 and vector_cbrt are as near as they say") {
  const exp2_range<float> range;
  double exp_error = 0, cbrt_error = 0;
  for_floats([&](float x) {
    const double root = std::cbrt(double(x));
    cbrt_error = std::fmax(cbrt_error, std::abs(double(vector_cbrt(x)) - root) / root);
    if (x > 126) return;
    for (int sign = -1; sign <= 1; sign += 2) {
      const double power = std::exp2(double(sign) * double(x));
      exp_error = std::fmax(exp_error, std::abs(double(vector_exp2(float(sign) * x, range)) - power) / power);
    }
  });
  CHECK(exp_error < 2.5e-7);
  CHECK(cbrt_error < 1.5e-7);
  CHECK(std::isnan(vector_exp2(kNaN, range)));
  for (const uint32_t bits :
       {0x7fc00001u, 0x7fce0095u, 0xffffffffu}) {  // whose low bits would be an exponent
    float nan;
    std::memcpy(&nan, &bits, sizeof nan);
    CHECK(std::isnan(vector_exp2(nan, range)));
  }
  CHECK(vector_exp2(-kInfinity, range) < 2e-38f);
  CHECK(vector_exp2(kInfinity, range) > 8e37f);
  CHECK(vector_exp2(0.0f, range) == 1);
  CHECK(std::isnan(vector_cbrt(kNaN)));
  CHECK(vector_cbrt(0.0f) == 0);
  CHECK(vector_cbrt(kInfinity) == kInfinity);
  CHECK(vector_cbrt(1e-42f) < 1e-12f);
  // In double the library's, which may differ in the last place from what a compiler computes of a constant.
  CHECK(vector_exp2(1.5, {}) == doctest::Approx(std::exp2(1.5)).epsilon(1e-15));
  CHECK(vector_cbrt(1.5) == doctest::Approx(std::cbrt(1.5)).epsilon(1e-15));
}

#ifdef __x86_64__
namespace {

/// 20 updates of some elements on vectors of the two widths, in f32 or f64: the same bits.
template <class Optimizer, class T>
void check_widths() {
  if (!__builtin_cpu_supports("avx2")) return;
  constexpr int64_t n = 1003;
  using Arrays = std::array<std::vector<T>, 4>;  // the parameter and three slots
  Arrays narrow, wide;
  narrow.fill(std::vector<T>(n, 0));
  const Tensor start = golden::normals("p", {n}, DType::f64),
               gradients = golden::normals("g", {21, n}, DType::f64);
  for (int64_t i = 0; i < n; ++i) narrow[0][size_t(i)] = T(start.at(i));
  wide = narrow;
  for (int64_t t = 1; t <= 20; ++t) {
    std::vector<T> g(n);
    for (int64_t i = 0; i < n; ++i) g[size_t(i)] = T(gradients.at(t * n + i)) * T(i % 7);
    const auto u = Optimizer::template formula<T>({}, t);
    using U = std::remove_const_t<decltype(u)>;
    const auto state = [](Arrays& a) { return std::array<T*, 3>{a[1].data(), a[2].data(), a[3].data()}; };
    auto of_narrow = state(narrow), of_wide = state(wide);
    with_slots<U>(of_narrow,
                  [&](auto*... s) { optim::update_elements(u, n, narrow[0].data(), g.data(), s...); });
    with_slots<U>(of_wide,
                  [&](auto*... s) { optim::update_elements_avx2(u, n, wide[0].data(), g.data(), s...); });
  }
  CHECK(narrow == wide);
  CHECK(std::isfinite(narrow[0].back()));
}

}  // namespace

TEST_CASE("updates give the same bits on vectors of either width") {
  check_widths<optim::Adam, float>();
  check_widths<optim::MADGRAD, float>();
  check_widths<optim::DiffGrad, float>();
  check_widths<optim::DiffGrad, double>();
}
#endif

TEST_CASE("MADGRAD without eps stays where no gradient was") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor p = golden::normals("p", {9}, dtype).set_requires_grad(), before = p.clone();
    optim::MADGRAD madgrad({{"p", p}}, {.eps = 0});
    for (const double g : {0.0, 0.0, 1.0}) {
      p.set_grad(Tensor::full({9}, g, dtype));
      madgrad.step();
      for (int64_t i = 0; i < 9; ++i)
        CHECK((p.at(i) == doctest::Approx(before.at(i)).epsilon(1e-6)) == (g == 0));
      for (int64_t i = 0; i < 9; ++i) CHECK(std::isfinite(p.at(i)));
    }
  }
}

TEST_CASE("centralize_gradients_ takes the mean from each output's gradient, in place") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Shape shapes[] = {{5}, {4, 3}, {3, 2, 2, 2}, {2, 0}, {1, 7}};
    for (const int above : {1, 3})
      for (const Shape& shape : shapes) {
        CAPTURE(shape.to_string());
        const Tensor p = Tensor::zeros(shape, dtype).set_requires_grad(),
                     missing = Tensor::zeros(shape, dtype).set_requires_grad();
        const Tensor before = golden::normals("g", shape, dtype);
        p.set_grad(before.clone());
        const Tensor same = p.grad();
        optim::centralize_gradients_({{"p", p}, {"missing", missing}}, above);
        CHECK(p.grad().is(same));
        CHECK(!missing.grad().defined());
        const int64_t rows = shape.ndim() > above ? shape[0] : 0;
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t n = shape.numel() / rows;
          double mean = 0;
          for (int64_t i = 0; i < n; ++i) mean += before.at(r * n + i) / double(n);
          for (int64_t i = 0; i < n; ++i)
            CHECK(same.at(r * n + i) == doctest::Approx(before.at(r * n + i) - mean).epsilon(1e-6));
        }
        if (rows == 0)
          for (int64_t i = 0; i < before.numel(); ++i) CHECK(same.at(i) == before.at(i));
      }
  }
  CHECK_THROWS_AS(optim::centralize_gradients_({{"p", Tensor()}}), Error);
}
