// The reference kernels against values worked out by hand: everything else is tested against these kernels.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "weft/kernels/kernels.h"

using namespace weft;
using namespace weft::kernels;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// An output before the kernel has run: whatever it does not overwrite shows.
template <class T>
std::vector<T> unset(size_t n) {
  return std::vector<T>(n, T(not_a_number));
}

template <class T>
void check(const std::vector<T>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    if (std::isnan(want[i]))
      CHECK(std::isnan(got[i]));
    else if (std::isinf(want[i]))
      CHECK(double(got[i]) == want[i]);
    else
      CHECK(std::abs(double(got[i]) - want[i]) <= 2 * std::numeric_limits<T>::epsilon() * std::abs(want[i]));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("unary", T, float, double) {
  const auto& k = reference<T>();
  const std::vector<T> x{-2, 0.25, 4};
  const auto forward = [&](Unary op, std::vector<T> v) {
    k.unary(op, int64_t(v.size()), v.data(), v.data());  // in place
    return v;
  };
  check<T>(forward(Unary::neg, x), {2, -0.25, -4});
  check<T>(forward(Unary::square, x), {4, 0.0625, 16});
  check<T>(forward(Unary::abs, x), {2, 0.25, 4});
  check<T>(forward(Unary::reciprocal, x), {-0.5, 4, 0.25});
  check<T>(forward(Unary::sqrt, {0, 0.25, 4}), {0, 0.5, 2});
  check<T>(forward(Unary::exp, {0, 1, T(-inf)}), {1, 2.718281828459045, 0});
  check<T>(forward(Unary::log, {0, 1, 2}), {-inf, 0, 0.6931471805599453});
}

TEST_CASE_TEMPLATE("unary_backward", T, float, double) {
  const auto& k = reference<T>();
  const auto backward = [&](Unary op, const std::vector<T>& x) {
    std::vector<T> d{3, 5, 7};
    k.unary_backward(op, 3, x.data(), d.data(), d.data());  // in place
    return d;
  };
  const std::vector<T> x{-2, 0.25, 4};
  check<T>(backward(Unary::neg, x), {-3, -5, -7});
  check<T>(backward(Unary::square, x), {-12, 2.5, 56});
  check<T>(backward(Unary::reciprocal, x), {-0.75, -80, -0.4375});
  check<T>(backward(Unary::abs, {-2, 0, 4}), {-3, 0, 7});
  check<T>(backward(Unary::sqrt, {1, 0.25, 4}), {1.5, 5, 1.75});
  check<T>(backward(Unary::log, {1, 0.25, 4}), {3, 20, 1.75});
  check<T>(backward(Unary::exp, {0, 0, 1}), {3, 5, 7 * 2.718281828459045});
}

TEST_CASE_TEMPLATE("binary", T, float, double) {
  const auto& k = reference<T>();
  const std::vector<T> a{1, 2, 3, 4, 5, 6}, row{10, 20, 40}, column{2, -1};
  auto y = unset<T>(6);

  k.binary(Binary::add, {2, {2, 3}, {3, 1}, {0, 1}}, a.data(), row.data(), y.data());
  check<T>(y, {11, 22, 43, 14, 25, 46});
  k.binary(Binary::mul, {2, {2, 3}, {3, 1}, {1, 0}}, a.data(), column.data(), y.data());
  check<T>(y, {2, 4, 6, -4, -5, -6});
  k.binary(Binary::sub, {2, {2, 3}, {1, 0}, {0, 1}}, column.data(), row.data(), y.data());  // both broadcast
  check<T>(y, {-8, -18, -38, -11, -21, -41});
  k.binary(Binary::div, {2, {3, 2}, {1, 3}, {0, 1}}, a.data(), column.data(), y.data());  // a transposed
  check<T>(y, {0.5, -4, 1, -5, 1.5, -6});

  auto in_place = a;
  k.binary(Binary::add, {1, {6}, {1}, {0}}, in_place.data(), row.data(), in_place.data());
  check<T>(in_place, {11, 12, 13, 14, 15, 16});

  auto scalar = unset<T>(1);
  k.binary(Binary::sub, {}, a.data(), row.data(), scalar.data());
  check<T>(scalar, {-9});
  auto untouched = unset<T>(1);
  k.binary(Binary::add, {2, {3, 0}, {0, 1}, {0, 1}}, a.data(), row.data(), untouched.data());
  check<T>(untouched, {not_a_number});
}

TEST_CASE_TEMPLATE("maximum and minimum pass on a NaN", T, float, double) {
  const auto& k = reference<T>();
  const std::vector<T> a{1, 5, T(not_a_number), 1}, b{3, 2, 1, T(not_a_number)};
  auto y = unset<T>(4);
  k.binary(Binary::maximum, {1, {4}, {1}, {1}}, a.data(), b.data(), y.data());
  check<T>(y, {3, 5, not_a_number, not_a_number});
  k.binary(Binary::minimum, {1, {4}, {1}, {1}}, a.data(), b.data(), y.data());
  check<T>(y, {1, 2, not_a_number, not_a_number});
}

TEST_CASE_TEMPLATE("affine and activation work in place", T, float, double) {
  const auto& k = reference<T>();
  std::vector<T> x{-1, 0, 3};
  k.affine(3, 2, -1, x.data(), x.data());
  check<T>(x, {-3, -1, 5});
  k.activation(Activation::leaky_relu, T(0.5), 3, x.data(), x.data());
  check<T>(x, {-1.5, -0.5, 5});
  std::vector<T> d{1, 2, 3};
  k.activation_backward(Activation::leaky_relu, T(0.5), 3, x.data(), d.data(), d.data());
  check<T>(d, {0.5, 1, 3});
}

TEST_CASE_TEMPLATE("dropout", T, float, double) {
  const auto& k = reference<T>();
  // Philox at key 0, counter 0: 6627e8d5 e169c58d bc57ac4c 9b00dbd8; kept from p * 2^32 on.
  std::vector<T> y{1, 1, 1, T(not_a_number)};
  uint64_t key = 0;
  k.dropout(3, 0.5, &key, y.data(), y.data());  // the threshold is 80000000
  check<T>(y, {0, 2, 2, not_a_number});
  y = {1, 2, 3, T(not_a_number)};
  k.dropout(4, 0.75, &key, y.data(), y.data());  // c0000000; what is dropped is 0, even a NaN
  check<T>(y, {0, 8, 0, 0});
  y = {1, 2, 3, 4};
  k.dropout(4, 0, &key, y.data(), y.data());
  check<T>(y, {1, 2, 3, 4});

  constexpr int n = 10000;
  std::vector<T> x(n, 1), mask = unset<T>(n), other = unset<T>(n);
  key = 7;
  k.dropout(n, 0.25, &key, x.data(), mask.data());
  key = 8;
  k.dropout(n, 0.25, &key, x.data(), other.data());
  int kept = 0, same = 0;
  for (int i = 0; i < n; ++i) {
    kept += mask[i] != 0;
    same += mask[i] == other[i];
  }
  // Five standard deviations about 3/4 and, for independent streams, (3/4)^2 + (1/4)^2.
  CHECK(std::abs(kept - 0.75 * n) < 5 * std::sqrt(n * 0.75 * 0.25));
  CHECK(std::abs(same - 0.625 * n) < 5 * std::sqrt(n * 0.625 * 0.375));
}

TEST_CASE_TEMPLATE("reduce", T, float, double) {
  const auto& k = reference<T>();
  const std::vector<T> x{1, -2, 3, 4, 5, -6, /**/ 0, 1, -1, -1, 7, T(not_a_number)};  // [2, 3, 2]
  auto y = unset<T>(4);
  k.reduce(Reduce::sum, 2, 3, 2, x.data(), y.data());
  check<T>(y, {9, -4, 6, not_a_number});
  k.reduce(Reduce::max, 2, 3, 2, x.data(), y.data());
  check<T>(y, {5, 4, 7, not_a_number});
  k.reduce(Reduce::min, 2, 3, 2, x.data(), y.data());
  check<T>(y, {1, -6, -1, not_a_number});
  k.reduce(Reduce::sum, 2, 0, 2, x.data(), y.data());
  check<T>(y, {0, 0, 0, 0});

  const std::vector<T> wide{T(1e8), 1, 1, 1, 1, T(-1e8)};  // in float, 1e8 + 1 = 1e8
  auto sum = unset<T>(1);
  k.reduce(Reduce::sum, 1, 6, 1, wide.data(), sum.data());
  check<T>(sum, {4});
}

TEST_CASE_TEMPLATE("gemm", T, float, double) {
  const auto& k = reference<T>();
  const T x = T(not_a_number);  // between the rows, where nothing may be read
  const std::vector<T> a{1, 2, x, 3, 4, x, 5, 6, x}, a_transposed{1, 3, 5, x, 2, 4, 6, x};
  const std::vector<T> b{7, 8, 9, x, 10, 11, 12, x}, b_transposed{7, 10, x, 8, 11, x, 9, 12, x};
  const std::vector<double> product{27, 30, 33, 61, 68, 75, 95, 106, 117};
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      CAPTURE(ta);
      CAPTURE(tb);
      GemmParams p{.m = 3, .n = 3, .k = 2, .transpose_a = ta, .transpose_b = tb};
      p.lda = ta ? 4 : 3, p.ldb = tb ? 3 : 4, p.ldc = 3;
      auto c = unset<T>(9);
      const T *pa = ta ? a_transposed.data() : a.data(), *pb = tb ? b_transposed.data() : b.data();
      k.gemm(p, pa, pb, c.data());
      check<T>(c, product);
      c.assign(9, 1000);
      p.accumulate = true;
      k.gemm(p, pa, pb, c.data());
      check<T>(c, {1027, 1030, 1033, 1061, 1068, 1075, 1095, 1106, 1117});
    }
}

TEST_CASE_TEMPLATE("gemm in batches", T, float, double) {
  const auto& k = reference<T>();
  const std::vector<T> a{1, 2, /**/ 3, 4}, b{10, 1};  // two [1,2] by one shared [2,1]
  GemmParams p{
      .m = 1, .n = 1, .k = 2, .lda = 2, .ldb = 1, .ldc = 1, .batch = 2, .stride_a = 2, .stride_c = 3};
  std::vector<T> c{-1, -1, -1, -1};
  k.gemm(p, a.data(), b.data(), c.data());
  check<T>(c, {12, -1, -1, 34});
  p.k = 0;
  k.gemm(p, a.data(), b.data(), c.data());
  check<T>(c, {0, -1, -1, 0});
}

TEST_CASE_TEMPLATE("conv2d: a 2x2 kernel over a 3x3 image", T, float, double) {
  const auto& k = reference<T>();
  const Conv2dParams p{.in_h = 3, .in_w = 3, .kernel_h = 2, .kernel_w = 2};
  const std::vector<T> x{1, 2, 3, 4, 5, 6, 7, 8, 9}, w{1, 2, 3, 4}, bias{100}, dy{1, 10, 100, 1000};
  for (ConvPass pass : {ConvPass::forward, ConvPass::backward_input, ConvPass::backward_weight})
    CHECK(k.conv2d_workspace(p, pass) == 0);
  auto y = unset<T>(4), dx = unset<T>(9), dw = unset<T>(4);
  k.conv2d_forward(p, x.data(), w.data(), nullptr, y.data(), nullptr);
  check<T>(y, {37, 47, 67, 77});
  k.conv2d_forward(p, x.data(), w.data(), bias.data(), y.data(), nullptr);
  check<T>(y, {137, 147, 167, 177});
  k.conv2d_backward_input(p, dy.data(), w.data(), dx.data(), nullptr);
  check<T>(dx, {1, 12, 20, 103, 1234, 2040, 300, 3400, 4000});
  k.conv2d_backward_weight(p, x.data(), dy.data(), dw.data(), nullptr);
  check<T>(dw, {5421, 6532, 8754, 9865});
}

TEST_CASE_TEMPLATE("conv2d: stride, padding and dilation of the height alone", T, float, double) {
  const auto& k = reference<T>();
  Conv2dParams p{
      .in_h = 3, .in_w = 2, .kernel_h = 2, .kernel_w = 1, .stride_h = 2, .pad_h = 1, .dilation_h = 2};
  REQUIRE(p.out_h() == 2);
  REQUIRE(p.out_w() == 2);
  const std::vector<T> x{1, 2, 3, 4, 5, 6}, w{1, 10}, dy{1, 2, 3, 4};
  auto y = unset<T>(4), dx = unset<T>(6), dw = unset<T>(2);
  k.conv2d_forward(p, x.data(), w.data(), nullptr, y.data(), nullptr);  // rows -1 and 1, then 1 and 3
  check<T>(y, {30, 40, 3, 4});
  k.conv2d_backward_input(p, dy.data(), w.data(), dx.data(), nullptr);
  check<T>(dx, {0, 0, 13, 24, 0, 0});
  k.conv2d_backward_weight(p, x.data(), dy.data(), dw.data(), nullptr);
  check<T>(dw, {25, 11});
}

TEST_CASE_TEMPLATE("conv2d: groups", T, float, double) {
  const auto& k = reference<T>();
  const Conv2dParams p{.in_c = 4, .out_c = 4, .groups = 2};
  const std::vector<T> x{1, 2, 3, 4}, w{1, 10, 100, 1000, 1, 10, 100, 1000}, dy{1, 2, 3, 4};
  const std::vector<T> bias{1, 2, 3, 4};
  auto y = unset<T>(4), dx = unset<T>(4), dw = unset<T>(8);
  k.conv2d_forward(p, x.data(), w.data(), bias.data(), y.data(), nullptr);
  check<T>(y, {22, 2102, 46, 4304});
  k.conv2d_backward_input(p, dy.data(), w.data(), dx.data(), nullptr);
  check<T>(dx, {201, 2010, 403, 4030});
  k.conv2d_backward_weight(p, x.data(), dy.data(), dw.data(), nullptr);
  check<T>(dw, {1, 2, 2, 4, 9, 12, 12, 16});
}

// y is linear in x and in w, so <y, dy> = <x, dx> = <w, dw>; with small integers the three are equal to the
// last bit.
TEST_CASE("conv2d: forward and backward are each other's adjoints") {
  const auto& k = reference<double>();
  const std::vector<Conv2dParams> geometries{{2, 5, 4, 3, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1},
                                             {2, 7, 6, 4, 6, 3, 2, 2, 3, 1, 0, 1, 2, 2},
                                             {1, 6, 9, 3, 3, 2, 5, 1, 2, 0, 4, 3, 1, 3},
                                             {3, 4, 4, 2, 5, 1, 1, 2, 2, 0, 0, 1, 1, 1},
                                             {1, 3, 3, 2, 2, 5, 5, 3, 1, 3, 2, 1, 1, 1}};
  const auto integers = [](int64_t n, int step) {
    std::vector<double> v(n);
    for (int64_t i = 0; i < n; ++i) v[i] = double((i * step + 3) % 11 - 5);
    return v;
  };
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  for (const Conv2dParams& p : geometries) {
    const auto x = integers(p.batch * p.in_h * p.in_w * p.in_c, 7);
    const auto w = integers(p.out_c * p.kernel_h * p.kernel_w * p.in_c / p.groups, 5);
    const auto dy = integers(p.batch * p.out_h() * p.out_w() * p.out_c, 3);
    auto y = unset<double>(dy.size()), dx = unset<double>(x.size()), dw = unset<double>(w.size());
    k.conv2d_forward(p, x.data(), w.data(), nullptr, y.data(), nullptr);
    k.conv2d_backward_input(p, dy.data(), w.data(), dx.data(), nullptr);
    k.conv2d_backward_weight(p, x.data(), dy.data(), dw.data(), nullptr);
    CHECK(dot(y, dy) != 0);
    CHECK(dot(x, dx) == dot(y, dy));
    CHECK(dot(w, dw) == dot(y, dy));
  }
}

TEST_CASE_TEMPLATE("max_pool2d: windows that hang over, two channels", T, float, double) {
  const auto& k = reference<T>();
  const Pool2dParams p{.in_h = 3, .in_w = 3, .channels = 2, .out_h = 2, .out_w = 2};
  // Channel 0: 1 5 2 / 3 4 8 / 9 7 6; channel 1: its negative.
  const std::vector<T> x{1, -1, 5, -5, 2, -2, 3, -3, 4, -4, 8, -8, 9, -9, 7, -7, 6, -6},
      dy{1, 2, 3, 4, 5, 6, 7, 8};
  auto y = unset<T>(8), dx = unset<T>(18);
  std::vector<int32_t> index(8, -1);
  k.max_pool2d_forward(p, x.data(), y.data(), index.data());
  check<T>(y, {5, -1, 8, -2, 9, -7, 6, -6});
  CHECK(index == std::vector<int32_t>{1, 0, 5, 2, 6, 7, 8, 8});
  k.max_pool2d_backward(p, dy.data(), index.data(), dx.data());
  check<T>(dx, {0, 2, 1, 0, 0, 4, 0, 0, 0, 0, 3, 0, 5, 0, 0, 6, 7, 8});
}

TEST_CASE_TEMPLATE("max_pool2d: padding, overlap, ties and NaN", T, float, double) {
  const auto& k = reference<T>();
  Pool2dParams p{.in_w = 4, .out_w = 3, .kernel_h = 1, .kernel_w = 3, .stride_h = 1, .pad_w = 1};
  std::vector<T> x{-3, -1, -1, -2}, dy{1, 2, 4};
  auto y = unset<T>(3), dx = unset<T>(4);
  std::vector<int32_t> index(3, -1);
  k.max_pool2d_forward(p, x.data(), y.data(), index.data());  // windows {-3,-1}, {-1,-1,-2}, {-2}
  check<T>(y, {-1, -1, -2});
  CHECK(index == std::vector<int32_t>{1, 1, 3});
  k.max_pool2d_backward(p, dy.data(), index.data(), dx.data());
  check<T>(dx, {0, 3, 0, 4});
  x = {T(-inf), T(-inf), T(not_a_number), 1};
  k.max_pool2d_forward(p, x.data(), y.data(), index.data());
  check<T>(y, {-inf, not_a_number, 1});
  CHECK(index == std::vector<int32_t>{0, 2, 3});
}

TEST_CASE_TEMPLATE("avg_pool2d: padding counts, the overhang never", T, float, double) {
  const auto& k = reference<T>();
  // Cells -1 to 1, 1 to 3, and 3 to 5, where 4 is padding and 5 lies beyond it.
  Pool2dParams p{.in_w = 4, .out_w = 3, .kernel_h = 1, .kernel_w = 3, .stride_h = 1, .pad_w = 1};
  const std::vector<T> x{1, 2, 3, 4}, dy{3, 6, 2};
  auto y = unset<T>(3), dx = unset<T>(4);
  k.avg_pool2d_forward(p, x.data(), y.data());
  check<T>(y, {1, 3, 2});
  k.avg_pool2d_backward(p, dy.data(), dx.data());
  check<T>(dx, {1, 3, 2, 3});
  p.count_include_pad = false;
  k.avg_pool2d_forward(p, x.data(), y.data());
  check<T>(y, {1.5, 3, 4});
  k.avg_pool2d_backward(p, dy.data(), dx.data());
  check<T>(dx, {1.5, 3.5, 2, 4});
}

TEST_CASE_TEMPLATE("avg_pool2d: batch, height and channels", T, float, double) {
  const auto& k = reference<T>();
  const Pool2dParams p{.batch = 2, .in_h = 2, .in_w = 2, .channels = 2, .out_h = 1, .out_w = 1};
  const std::vector<T> x{1, 10, 2, 20, 3, 30, 6, 60, /**/ 0, 1, 0, 2, 0, 3, 4, 4}, dy{4, 8, 12, 16};
  auto y = unset<T>(4), dx = unset<T>(16);
  k.avg_pool2d_forward(p, x.data(), y.data());
  check<T>(y, {3, 30, 1, 2.5});
  k.avg_pool2d_backward(p, dy.data(), dx.data());
  check<T>(dx, {1, 2, 1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4, 3, 4});
}

TEST_CASE_TEMPLATE("batch_norm_stats", T, float, double) {
  const auto& k = reference<T>();
  const std::vector<T> x{10001, 0, 10002, 0, 10003, 4, 10006, 4};
  auto mean = unset<T>(2), var = unset<T>(2);
  k.batch_norm_stats(4, 2, x.data(), mean.data(), var.data());
  check<T>(mean, {10003, 2});
  check<T>(var, {3.5, 4});
}

TEST_CASE_TEMPLATE("batch_norm: two channels, no activation", T, float, double) {
  const auto& k = reference<T>();
  const std::vector<T> x{1, 5, 3, 9}, mean{2, 1}, invstd{1, 0.5}, weight{2, 4}, bias{10, 20};
  BatchNormArgs<T> a{2, 2, x.data(), mean.data(), invstd.data(), weight.data(), bias.data()};
  auto y = unset<T>(4);
  k.batch_norm_forward(a, y.data());
  check<T>(y, {8, 28, 12, 36});
}

TEST_CASE_TEMPLATE("batch_norm with activation and residual", T, float, double) {
  const auto& k = reference<T>();
  // xhat = -1, -1, 1, 1; without the residual z = -2, -2, 4, 4.
  const std::vector<T> x{0, 0, 4, 4}, mean{2}, invstd{0.5}, weight{3}, bias{1}, residual{3, 0, -5, 0},
      dy{1, 2, 3, 4};
  BatchNormArgs<T> a{4, 1, x.data(), mean.data(), invstd.data(), weight.data(), bias.data()};
  a.activation = Activation::leaky_relu;
  a.param = T(0.5);
  auto y = unset<T>(4), g = unset<T>(4), dx = unset<T>(4), dweight = unset<T>(1), dbias = unset<T>(1);

  k.batch_norm_forward(a, y.data());
  check<T>(y, {-1, -1, 4, 4});
  k.batch_norm_backward_reduce(a, dy.data(), nullptr, dweight.data(), dbias.data(),
                               nullptr);  // g = 0.5, 1, 3, 4
  check<T>(dbias, {8.5});
  check<T>(dweight, {5.5});

  a.activation = Activation::relu;
  a.residual = residual.data();  // z = 1, -2, -1, 4
  y = residual;
  BatchNormArgs<T> in_place = a;
  in_place.residual = y.data();
  k.batch_norm_forward(in_place, y.data());
  check<T>(y, {1, 0, 0, 4});
  k.batch_norm_backward_reduce(a, dy.data(), g.data(), dweight.data(), dbias.data(), nullptr);
  check<T>(g, {1, 0, 0, 4});
  check<T>(dbias, {5});
  check<T>(dweight, {3});

  const std::vector<double> training{0.75, -0.75, -3, 3}, inference{1.5, 0, 0, 6};
  k.batch_norm_backward_input(a, dy.data(), dweight.data(), dbias.data(), true, dx.data());
  check<T>(dx, training);
  k.batch_norm_backward_input(a, dy.data(), dweight.data(), dbias.data(), false, dx.data());
  check<T>(dx, inference);

  // In place, and from g with identity.
  auto d = dy;
  k.batch_norm_backward_reduce(a, d.data(), d.data(), dweight.data(), dbias.data(), nullptr);
  check<T>(d, {1, 0, 0, 4});
  check<T>(dweight, {3});
  a.activation = Activation::identity;
  a.residual = nullptr;
  k.batch_norm_backward_input(a, d.data(), dweight.data(), dbias.data(), true, d.data());
  check<T>(d, training);
}

TEST_CASE_TEMPLATE("softmax", T, float, double) {
  const auto& k = reference<T>();
  const T ln3 = T(std::log(3.0));
  std::vector<T> x{0, ln3, -1000, -1000, T(-inf), 5}, y = x;  // [3, 2]
  k.softmax(3, 2, y.data(), y.data());
  check<T>(y, {0.25, 0.75, 0.5, 0.5, 0, 1});
  y = x;
  k.log_softmax(3, 2, y.data(), y.data());
  check<T>(y, {-1.3862943611198906, -0.2876820724517809, -0.6931471805599453, -0.6931471805599453, -inf, 0});
  x = {1000, 1000, T(not_a_number), 1, 1, T(not_a_number)};
  k.softmax(3, 2, x.data(), y.data());
  check<T>(y, {0.5, 0.5, not_a_number, not_a_number, not_a_number, not_a_number});
}

TEST_CASE_TEMPLATE("softmax backward", T, float, double) {
  const auto& k = reference<T>();
  std::vector<T> y{0.25, 0.75, 0.5, 0.5}, d{4, 8, 2, -2};  // sums of dy * y: 7 and 0
  k.softmax_backward(2, 2, y.data(), d.data(), d.data());
  check<T>(d, {-0.75, 0.75, 1, -1});
  y = {T(-1.3862943611198906), T(-0.2876820724517809), 0, T(-inf)};
  d = {1, 2, 3, 4};  // sums of dy: 3 and 7
  k.log_softmax_backward(2, 2, y.data(), d.data(), d.data());
  check<T>(d, {0.25, -0.25, -4, 4});
}
