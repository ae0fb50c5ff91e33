// The functions that optimizers' formulas are made of, against the standard library's; and centralised
// gradients against their definition.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "support/golden.h"
#include "weft/kernels/updates/vector_math.h"
#include "weft/optim/centralize.h"

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

TEST_CASE("vector_exp and vector_cbrt are as near as they say") {
  double exp_error = 0, cbrt_error = 0;
  for_floats([&](float x) {
    const double root = std::cbrt(double(x));
    cbrt_error = std::fmax(cbrt_error, std::abs(double(vector_cbrt(x)) - root) / root);
    if (x > 87) return;
    for (int sign = -1; sign <= 1; sign += 2) {
      const double power = std::exp(double(sign) * double(x));
      exp_error = std::fmax(exp_error, std::abs(double(vector_exp(float(sign) * x)) - power) / power);
    }
  });
  CHECK(exp_error < 2.5e-7);
  CHECK(cbrt_error < 2.5e-7);
  CHECK(std::isnan(vector_exp(kNaN)));
  CHECK(vector_exp(-kInfinity) < 2e-38f);
  CHECK(vector_exp(kInfinity) > 1e38f);
  CHECK(vector_exp(0.0f) == 1);
  CHECK(std::isnan(vector_cbrt(kNaN)));
  CHECK(vector_cbrt(0.0f) == 0);
  CHECK(vector_cbrt(kInfinity) == kInfinity);
  CHECK(vector_cbrt(1e-42f) < 1e-12f);
  CHECK(vector_exp(1.5) == std::exp(1.5));
  CHECK(vector_cbrt(1.5) == std::cbrt(1.5));
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
