// bf16 and f16 against their definitions: every value, and the nearest of them for any float.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "weft/engine/random.h"
#include "weft/engine/tensor.h"
#include "weft/kernels/half.h"

namespace {

using weft::bf16;
using weft::f16;

/// The value that IEEE 754 gives to these bits.
double value_of(uint32_t bits, int mantissa_bits, int bias) {
  const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1), exponent = (bits & 0x7fffu) >> mantissa_bits;
  const double sign = bits & 0x8000u ? -1 : 1;
  if (exponent == uint32_t(2 * bias + 1))
    return mantissa ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  const double whole = exponent ? std::ldexp(1.0, mantissa_bits) + mantissa : double(mantissa);
  return sign * std::ldexp(whole, int(exponent ? exponent : 1) - bias - mantissa_bits);
}

template <class H>
void check_type(int mantissa_bits, int bias) {
  const auto value = [&](uint16_t bits) { return value_of(bits, mantissa_bits, bias); };
  for (uint32_t b = 0; b < 0x10000; ++b) {
    H h;
    h.bits = uint16_t(b);
    const double v = value(h.bits), f = double(h);
    if (std::isnan(v)) {
      REQUIRE(std::isnan(f));
      REQUIRE(std::isnan(double(H(float(h)))));
      continue;
    }
    REQUIRE(f == v);
    REQUIRE(H(float(h)).bits == h.bits);
    if (!std::isfinite(v)) continue;
    // Halfway to the next larger in magnitude: the even one of the two; a little more or less: the nearer.
    const double next =
        std::isfinite(value(uint16_t(b + 1))) ? value(uint16_t(b + 1)) : v + (v - value(uint16_t(b - 1)));
    const float middle = float((v + next) / 2);
    if (double(middle) != (v + next) / 2) continue;  // below the smallest float
    REQUIRE(H(middle).bits == uint16_t(b + (b & 1)));
    REQUIRE(H(std::nextafter(middle, 0.0f)).bits == h.bits);
    REQUIRE(H(std::nextafter(middle, std::copysign(INFINITY, middle == 0 ? float(next) : middle))).bits ==
            uint16_t(b + 1));
  }
}

}  // namespace

TEST_CASE("bf16") { check_type<bf16>(7, 127); }
TEST_CASE("f16") { check_type<f16>(10, 15); }

TEST_CASE("tensors of 16-bit types are converted, filled and read") {
  using weft::DType;
  using weft::Tensor;
  const Tensor x = Tensor::normal({3, 5}, 0, 10);
  for (const DType type : {DType::bf16, DType::f16}) {
    const Tensor h = x.to(type);
    CHECK(h.bytes() == 30);
    for (int64_t i = 0; i < x.numel(); ++i) {
      CHECK(h.at(i) == doctest::Approx(x.at(i)).epsilon(type == DType::bf16 ? 1.0 / 256 : 1.0 / 2048));
      CHECK(h.to(DType::f32).at(i) == h.at(i));
    }
    CHECK(Tensor::full({2}, 1.5, type).at(1) == 1.5);
    CHECK(Tensor::from<int64_t>({-3, 7}, {2}).to(type).to(DType::i64).at(0) == -3);
  }
}
