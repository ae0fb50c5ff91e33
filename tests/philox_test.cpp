#include "weft/kernels/philox.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace weft::kernels;

namespace {
using Words = std::array<uint32_t, 4>;
}

// The vectors that Random123 publishes for philox4x32-10 (kat_vectors).
TEST_CASE("philox gives the published values") {
  CHECK(philox(0, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox(0x299f31d0'a4093822, 0x85a308d3'243f6a88, 0x03707344'13198a2e) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform numbers lie in [0, 1) and use the high bits") {
  CHECK(uniform_float(0) == 0.0f);
  CHECK(uniform_float(0xff) == 0.0f);
  CHECK(uniform_float(0x80000000u) == 0.5f);
  CHECK(uniform_float(0xffffffffu) == 1.0f - 0x1p-24f);
  CHECK(uniform_double(0, 0) == 0.0);
  CHECK(uniform_double(0x80000000u, 0) == 0.5);
  CHECK(uniform_double(0, 1u << 11) == 0x1p-53);
  CHECK(uniform_double(0xffffffffu, 0xffffffffu) == 1.0 - 0x1p-53);
}

TEST_CASE("uniform numbers have the moments of a uniform distribution") {
  constexpr int n = 100000;
  double sum = 0, squares = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const double u = uniform_float(philox(42, i)[i & 3]);
    sum += u;
    squares += (u - 0.5) * (u - 0.5);
  }
  // Five standard deviations of the estimates.
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(squares / n - 1.0 / 12) < 5 * std::sqrt(1.0 / 180 / n));
}
