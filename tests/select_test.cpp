// Comparisons, where, clamp and pow. Expected values at special points are those of PyTorch 2.13.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/errors.h"
#include "support/gradients.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::test;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(),
                 kNaN = std::numeric_limits<double>::quiet_NaN();

Tensor f32(const std::vector<double>& values) {
  return Tensor::from<float>({values.begin(), values.end()}, {int64_t(values.size())});
}
Tensor leaf(const std::vector<double>& values) { return f32(values).set_requires_grad(); }

/// Equal, with the sign of zeros, NaN to NaN; other numbers to 6 digits.
void check_values(const Tensor& got, const std::vector<double>& want) {
  REQUIRE(got.numel() == int64_t(want.size()));
  for (size_t i = 0; i < want.size(); ++i) {
    CAPTURE(i);
    const double g = got.at(int64_t(i)), w = want[i];
    CAPTURE(g);
    CAPTURE(w);
    if (std::isnan(w))
      CHECK(std::isnan(g));
    else if (std::isinf(w) || w == 0)
      CHECK((g == w && std::signbit(g) == std::signbit(w)));
    else
      CHECK(g == doctest::Approx(w).epsilon(1e-6));
  }
}

std::string digits(const Tensor& t) {
  std::string s;
  for (const uint8_t v : t.to_vector<uint8_t>()) s += char('0' + v);
  return s;
}

using Comparison = Tensor (*)(const Tensor&, const Tensor&);
using ComparisonWith = Tensor (*)(const Tensor&, double);
struct Compared {
  Comparison of;
  ComparisonWith with;
  const char* special;
};
// Each of 0, -0, 1, -1, inf, -inf and NaN against each.
const Compared kComparisons[] = {{eq, eq, "1100000110000000100000001000000010000000100000000"},
                                 {ne, ne, "0011111001111111011111110111111101111111011111111"},
                                 {lt, lt, "0010100001010000001001110100000000011111000000000"},
                                 {le, le, "1110100111010000101001111100000010011111100000000"},
                                 {gt, gt, "0001010000101011010100000010111101000000000000000"},
                                 {ge, ge, "1101010110101011110100001010111111000000100000000"}};

/// dx and the value of f at x, plainly and recorded, for a gradient that comes.
void check_slopes(const std::function<Tensor(const Tensor&)>& f, const std::vector<double>& at, double dy,
                  const std::vector<double>& slopes) {
  for (const bool create_graph : {false, true}) {
    CAPTURE(create_graph);
    const Tensor x = leaf(at);
    Tape tape;
    const Tensor y = f(x);
    const Tensor coming = Tensor::full(y.shape(), dy);
    check_values(tape.grad(y, {x}, {.grad_outputs = {coming}, .create_graph = create_graph})[0], slopes);
  }
}

}  // namespace

TEST_CASE("comparisons of special values, in every dtype, with tensors and numbers") {
  const std::vector<double> special{0, -0.0, 1, -1, kInf, -kInf, kNaN};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor values = f32(special).to(dtype);
    for (const Compared& c : kComparisons) {
      CHECK(digits(c.of(values.view({7, 1}), values)) == c.special);
      for (size_t k = 0; k < special.size(); ++k)
        for (size_t i = 0; i < special.size(); ++i)
          CHECK(c.with(values, special[k]).at(int64_t(i)) == c.special[7 * i + k] - '0');
    }
  }
  const Tensor y = lt(Tensor::zeros({2, 3}), Tensor::ones({3}));
  CHECK(y.shape() == Shape{2, 3});
  CHECK(y.dtype() == DType::u8);
  CHECK(eq(Tensor::zeros({0, 3}), 0).numel() == 0);
  CHECK(digits(eq(f32({0.1}), 0.1)) == "1");  // the number is rounded like the tensor
  const Tensor whole = Tensor::from<int64_t>({1, 2, 3, int64_t{1} << 60}, {4});
  CHECK(digits(eq(whole, whole)) == "1111");
  CHECK(digits(gt(whole, Tensor::from<int64_t>({2, 2, 2, (int64_t{1} << 60) - 1}, {4}))) == "0011");
  CHECK(digits(eq(whole, 2)) == "0100");
  CHECK(digits(gt(whole, 2.5)) == "0011");
  CHECK(digits(le(whole, kInf)) == "1111");
  CHECK(digits(ne(whole, kNaN)) == "1111");
  const Tensor bytes = Tensor::from<uint8_t>({0, 255}, {2});
  CHECK(digits(lt(bytes, 255)) == "10");
  CHECK(digits(le(bytes, 300)) == "11");
  CHECK(digits(ge(bytes, -1)) == "11");
}

TEST_CASE("comparisons have no gradient") {
  const Tensor x = leaf({1, 2});
  Tape tape;
  CHECK(!eq(x, 1).requires_grad());
}

TEST_CASE("where: the chosen operand has the gradient, the other none, whatever comes") {
  const Tensor c = Tensor::from<uint8_t>({1, 0, 7}, {3});
  for (const bool create_graph : {false, true}) {
    const Tensor a = leaf({1, 2, kNaN}), b = leaf({4, kNaN, 6});
    Tape tape;
    const Tensor y = where(c, a, b);
    check_values(y, {1, kNaN, kNaN});
    const auto g =
        tape.grad(y, {a, b}, {.grad_outputs = {f32({kInf, kNaN, 3})}, .create_graph = create_graph});
    check_values(g[0], {kInf, 0, 3});
    check_values(g[1], {0, kNaN, 0});
  }
  check_values(where(c, 5.0, f32({1, 2, 3})), {5, 2, 5});
  check_values(where(c, f32({1, 2, 3}), -0.0), {1, -0.0, 3});
  check_values(masked_fill(f32({1, kNaN, 3}), eq(c, 0), 9), {1, 9, 3});
  // A backward that stays out of where the logarithm has no slope.
  check_slopes([](const Tensor& x) { return where(gt(x, 0), weft::log(where(gt(x, 0), x, 1.0)), 0.0); },
               {0, -1, 4}, 1, {0, 0, 0.25});
}

TEST_CASE("where and masked_fill move whole numbers, exactly") {
  const int64_t big = (int64_t{1} << 53) + 1;  // no double
  const Tensor labels = Tensor::from<int64_t>({4, big, 2, 7, 0, -big}, {2, 3}),
               padding = Tensor::from<uint8_t>({0, 0, 1, 9, 0, 0}, {2, 3});
  CHECK(masked_fill(labels, padding, -100).to_vector<int64_t>() ==
        std::vector<int64_t>{4, big, -100, -100, 0, -big});
  const Tensor column = Tensor::from<uint8_t>({1, 0}, {2, 1});  // the three are broadcast
  CHECK(where(column, labels, Tensor::from<int64_t>({-1, -2, big}, {3})).to_vector<int64_t>() ==
        std::vector<int64_t>{4, big, 2, -1, -2, big});
  CHECK(where(column, 5.0, Tensor::from<uint8_t>({255, 0}, {2})).to_vector<uint8_t>() ==
        std::vector<uint8_t>{5, 5, 255, 0});
  CHECK(masked_fill(padding, eq(padding, 9), 255).at(3) == 255);
  CHECK(where(column, labels, -0x1p63).at(3) == -0x1p63);
  CHECK(where(Tensor::zeros({0, 1}, DType::u8), Tensor::zeros({1, 3}, DType::i64),
              Tensor::zeros({0, 3}, DType::i64))
            .shape() == Shape{0, 3});
}

TEST_CASE("where broadcasts all three") {
  const Tensor c = Tensor::from<uint8_t>({1, 0}, {2, 1, 1});
  const Tensor y = where(c, Tensor::from<double>({1, 2, 3}, {3, 1}), Tensor::from<double>({5, 6}, {2}));
  CHECK(y.shape() == Shape{2, 3, 2});
  check_values(y, {1, 1, 2, 2, 3, 3, 5, 6, 5, 6, 5, 6});
  CHECK(where(Tensor::zeros({0, 1}, DType::u8), Tensor::ones({3}), 0.0).shape() == Shape{0, 3});
}

TEST_CASE("clamp") {
  const std::vector<double> x{-2, -1, 0, 1, 2, kNaN, kInf, -kInf, -0.0, 0.5};
  struct Case {
    double min, max;
    std::vector<double> y, dx;
  };
  const Case cases[] = {
      {-1, 1, {-1, -1, 0, 1, 1, kNaN, 1, -1, -0.0, 0.5}, {0, 1, 1, 1, 0, 0, 0, 0, 1, 1}},
      {1, -1, {-1, -1, -1, -1, -1, kNaN, -1, -1, -1, -1}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
      {-kInf, 1, {-2, -1, 0, 1, 1, kNaN, 1, -kInf, -0.0, 0.5}, {1, 1, 1, 1, 0, 0, 0, 1, 1, 1}},
      {-1, kInf, {-1, -1, 0, 1, 2, kNaN, kInf, -1, -0.0, 0.5}, {0, 1, 1, 1, 1, 0, 1, 0, 1, 1}},
      {0, 1, {0, 0, 0, 1, 1, kNaN, 1, 0, -0.0, 0.5}, {0, 0, 1, 1, 0, 0, 0, 0, 1, 1}},
      {-1, -0.0, {-1, -1, 0, -0.0, -0.0, kNaN, -0.0, -1, -0.0, -0.0}, {0, 1, 1, 0, 0, 0, 0, 0, 1, 0}},
      {1, 1, {1, 1, 1, 1, 1, kNaN, 1, 1, 1, 1}, {0, 0, 0, 1, 0, 0, 0, 0, 0, 0}},
      {kNaN, 1, std::vector<double>(10, kNaN), std::vector<double>(10, 0)}};
  for (const Case& c : cases) {
    CAPTURE(c.min);
    CAPTURE(c.max);
    for (const DType dtype : {DType::f32, DType::f64})
      check_values(clamp(f32(x).to(dtype), c.min, c.max), c.y);
    check_slopes([&](const Tensor& t) { return clamp(t, c.min, c.max); }, x, 1, c.dx);
  }
  check_slopes([](const Tensor& t) { return clamp(t, 0, 1); }, {-1, 0.5, 2}, kInf, {0, kInf, 0});
  CHECK(clamp(Tensor::zeros({0}), 0, 1).numel() == 0);
  check_values(clamp(Tensor::scalar(3), 0, 1), {1});
}

TEST_CASE("pow at 0, infinity, NaN and negative numbers") {
  const std::vector<double> x{0, -0.0, 1, -1, 2, -2, kInf, -kInf, kNaN, 0.25, -8};
  struct Case {
    double p;
    std::vector<double> y, dx;
  };
  const double n = kNaN, i = kInf;
  const Case cases[] = {
      {0, std::vector<double>(11, 1), std::vector<double>(11, 0)},
      {1, x, std::vector<double>(11, 1)},
      {2, {0, 0, 1, 1, 4, 4, i, i, n, 0.0625, 64}, {0, -0.0, 2, -2, 4, -4, i, -i, n, 0.5, -16}},
      {3, {0, -0.0, 1, -1, 8, -8, i, -i, n, 0.015625, -512}, {0, 0, 3, 3, 12, 12, i, i, n, 0.1875, 192}},
      {-1,
       {i, -i, 1, -1, 0.5, -0.5, 0, -0.0, n, 4, -0.125},
       {-i, -i, -1, -1, -0.25, -0.25, -0.0, -0.0, n, -16, -0.015625}},
      {-2,
       {i, i, 1, 1, 0.25, 0.25, 0, 0, n, 16, 0.015625},
       {-i, i, -2, 2, -0.25, 0.25, -0.0, 0, n, -128, 0.00390625}},
      {0.5, {0, -0.0, 1, n, 1.414213562, n, i, n, n, 0.5, n}, {i, -i, 0.5, n, 0.353553391, n, 0, n, n, 1, n}},
      {-0.5,
       {i, -i, 1, n, 0.707106781, n, 0, n, n, 2, n},
       {-i, -i, -0.5, n, -0.176776695, n, -0.0, -0.0, n, -4, n}},
      {1.5,
       {0, 0, 1, n, 2.828427125, n, i, i, n, 0.125, n},
       {0, -0.0, 1.5, n, 2.121320344, n, i, n, n, 0.75, n}},
      {4,
       {0, 0, 1, 1, 16, 16, i, i, n, 0.00390625, 4096},
       {0, -0.0, 4, -4, 32, -32, i, -i, n, 0.0625, -2048}},
      {5,
       {0, -0.0, 1, -1, 32, -32, i, -i, n, 0.0009765625, -32768},
       {0, 0, 5, 5, 80, 80, i, i, n, 0.01953125, 20480}},
      {-3,
       {i, -i, 1, -1, 0.125, -0.125, 0, -0.0, n, 64, -0.001953125},
       {-i, -i, -3, -3, -0.1875, -0.1875, -0.0, -0.0, n, -768, -0.000732421875}},
      {0.3,
       {0, 0, 1, n, 1.231144413, n, i, i, n, 0.659753955, n},
       {i, i, 0.3, n, 0.184671662, n, 0, 0, n, 0.791704746, n}},
      {i, {0, 0, 1, 1, i, i, i, i, n, 0, i}, {n, n, i, i, i, i, i, i, n, n, i}},
      {-i, {i, i, 1, 1, 0, 0, 0, 0, n, i, 0}, {-i, -i, -i, -i, n, n, n, n, n, -i, n}},
      {n, {n, n, 1, n, n, n, n, n, n, n, n}, std::vector<double>(11, n)}};
  for (const Case& c : cases) {
    CAPTURE(c.p);
    for (const DType dtype : {DType::f32, DType::f64}) check_values(pow(f32(x).to(dtype), c.p), c.y);
    check_slopes([&](const Tensor& t) { return pow(t, c.p); }, x, 1, c.dx);
  }
  CHECK(pow(Tensor::zeros({0}), 2.5).numel() == 0);
}

TEST_CASE("gradients, and the gradients' gradients") {
  Tensor mask = Tensor::empty({3, 5}, DType::u8);
  for (int64_t i = 0; i < mask.numel(); ++i) mask.data<uint8_t>()[i] = i % 3 == 0;
  const auto curved = [](const Function& f) -> Function {
    return [f](const Inputs& in) {
      Inputs bent;
      for (const Tensor& t : in) bent.push_back(t + 0.05 * square(t));
      return f(bent);
    };
  };
  const std::pair<Shape, Shape> shapes[] = {
      {{3, 5}, {3, 5}}, {{2, 3, 5}, {5}}, {{}, {3, 1}}, {{1, 5}, {2, 1, 1}}};
  for (const auto& of : shapes) {
    const Shape &a = of.first, &b = of.second;
    CAPTURE(a.to_string());
    CAPTURE(b.to_string());
    check_both_gradients(curved([&](const Inputs& in) { return where(mask, in[0], in[1]); }),
                         {normal(a), normal(b)});
    check_both_gradients(
        curved([](const Inputs& in) { return where(gt(in[0], in[1]), in[0], square(in[1])); }),
        {normal(a), normal(b)});
  }
  check_both_gradients(curved([&](const Inputs& in) { return where(mask, in[0], 2.0); }), {normal({3, 5})});
  check_both_gradients(curved([&](const Inputs& in) { return where(mask, -1.0, in[0]); }), {normal({5})});
  check_both_gradients(curved([&](const Inputs& in) { return masked_fill(in[0], mask, 0.5); }),
                       {normal({2, 3, 5})});
  check_both_gradients(curved([](const Inputs& in) { return clamp(in[0], -0.61, 0.83); }), {normal({3, 5})});
  for (const double p : {0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 5.0}) {
    CAPTURE(p);
    check_both_gradients(curved([p](const Inputs& in) { return pow(in[0], p); }), {nonzero({3, 5})});
  }
  for (const double p : {0.5, -0.5, 1.7, -1.3}) {
    CAPTURE(p);
    check_both_gradients(curved([p](const Inputs& in) { return pow(in[0], p); }), {positive({3, 5})});
  }
}

TEST_CASE("what is wrong is named") {
  const Tensor x = Tensor::ones({2, 3}), mask = Tensor::zeros({2, 3}, DType::u8);
  CHECK_ERROR(gt(x, Tensor::ones({4})), "gt: shapes [2, 3] and [4] do not broadcast (3 against 4)");
  CHECK_ERROR(le(x, Tensor::ones({3}, DType::f64)), "le: operands are f32 [2, 3] and f64 [3]");
  CHECK_ERROR(where(x, x, x), "where: the condition is f32 [2, 3]; expected u8");
  CHECK_ERROR(where(mask, x, x.to(DType::f64)), "where: operands are f32 [2, 3] and f64 [2, 3]");
  CHECK_ERROR(where(Tensor::zeros({4}, DType::u8), x, 0.0), "where: shapes [4] and [2, 3] do not broadcast");
  CHECK_ERROR(where(mask, mask, -1.0), "where: -1 is no u8; convert the u8 [2, 3] with .to(DType::f32)");
  CHECK_ERROR(masked_fill(Tensor::ones({2}, DType::i64), Tensor::zeros({2}, DType::u8), 0.5),
              "where: 0.5 is no i64");
  CHECK_ERROR(masked_fill(Tensor::ones({2}, DType::i64), Tensor::zeros({2}, DType::u8), kNaN),
              "where: nan is no i64");
  CHECK_ERROR(where(mask, mask, Tensor::ones({3}, DType::i64)), "where: operands are u8 [2, 3] and i64 [3]");
  CHECK_ERROR(masked_fill(Tensor::ones({3}), mask, 0),
              "masked_fill: the mask [2, 3] does not broadcast to [3]");
  CHECK_ERROR(clamp(mask, 0, 1), "clamp: dtype u8");
  CHECK_ERROR(pow(mask, 2), "pow: dtype u8");
}

// --- where a product with a mask of 0 and 1 would make NaN of what is infinite ---

TEST_CASE("an infinite gradient of maximum and minimum stays with the operand that was chosen") {
  for (const bool create_graph : {false, true}) {
    CAPTURE(create_graph);
    const Tensor a = leaf({1, 2}), b = leaf({2, 1});
    Tape tape;
    for (const bool most : {true, false}) {
      const Tensor y = most ? maximum(a, b) : minimum(b, a);
      const auto g = tape.grad(
          y, {a, b},
          {.grad_outputs = {f32({kInf, kInf})}, .retain_graph = true, .create_graph = create_graph});
      check_values(g[most ? 0 : 1], {0, kInf});
      check_values(g[most ? 1 : 0], {kInf, 0});
    }
  }
}

TEST_CASE("learned activations of infinite numbers: the gradients of their parameters") {
  for (const bool create_graph : {false, true}) {
    CAPTURE(create_graph);
    {
      const Tensor w = leaf({0.25}), x = leaf({kInf, -1, 0});
      Tape tape;
      const auto g = tape.grad(sum(prelu(x, w)), {w, x}, {.create_graph = create_graph});
      check_values(g[0], {-1});
      check_values(g[1], {1, 0.25, 0.25});
    }
    const Tensor x = leaf({kInf, -1, 0.5}), left = leaf({0.2}), right = leaf({2});
    Tape tape;
    const Tensor y = srelu(x, f32({1}), right, f32({0}), left);
    const auto g = tape.grad(sum(y), {left, right}, {.create_graph = create_graph});
    check_values(g[0], {-1});
    check_values(g[1], {kInf});
  }
}

TEST_CASE("what is divided by a number is divided, not multiplied by its reciprocal") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (int n = 1; n < 1000; ++n) {
      const double quotient = (Tensor::scalar(n, dtype) / double(n)).item();
      CHECK_MESSAGE(quotient == 1, n);
    }
  CHECK((Tensor::scalar(1e-39) / 1e-39).item() == 1);
}

TEST_CASE("the gradient of a divisor too small to be divided by twice") {
  const Tensor b = leaf({1e-39});
  Tape tape;
  check_values(tape.grad(Tensor::zeros({1}) / b, {b})[0], {-0.0});
}

TEST_CASE("rows whose label is ignored count nothing even if they are no numbers") {
  const Tensor labels = Tensor::from<int64_t>({0, -100}, {2});
  for (const Reduction r : {Reduction::mean, Reduction::sum, Reduction::none})
    for (const bool create_graph : {false, true})
      for (const double bad : {kNaN, kInf, -kInf}) {
        CAPTURE(int(r));
        CAPTURE(create_graph);
        CAPTURE(bad);
        const Tensor x = leaf({-1, -2, bad, 3});
        Tape tape;
        const Tensor rows = reshape(x, {2, 2});
        const Tensor nll = nll_loss(rows, labels, {.ignore_index = -100, .reduction = r});
        check_values(nll + 0.0, r == Reduction::none ? std::vector<double>{1, 0} : std::vector<double>{1});
        check_values(tape.grad(sum(nll), {x}, {.retain_graph = true, .create_graph = create_graph})[0],
                     {-1, 0, 0, 0});
        // PyTorch's loss; its gradient is NaN in that row.
        const Tensor cross = cross_entropy(rows, labels, {.ignore_index = -100, .reduction = r});
        check_values(cross + 0.0, r == Reduction::none ? std::vector<double>{0.31326169, 0}
                                                       : std::vector<double>{0.31326169});
        const Tensor dx = tape.grad(sum(cross), {x}, {.retain_graph = true, .create_graph = create_graph})[0];
        check_values(dx, {-0.26894143, 0.26894143, 0, 0});
        if (create_graph) check_values(tape.grad(sum(square(dx)), {x})[0], {-0.21150837, 0.21150837, 0, 0});
      }
  // A number that has no part in a row's loss has none in its gradient.
  check_slopes(
      [](const Tensor& x) {
        return nll_loss(reshape(x, {1, 2}), Tensor::zeros({1}, DType::i64));
      },
      {-1, kNaN}, 1, {-1, 0});
}
