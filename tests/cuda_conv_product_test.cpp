// Products for 1x1 convolutions, and convolutions of few channels, on the tensor cores, against double; on
// the emulated device with few multiprocessors, so that blocks take several tiles.
#include <cmath>
#include <vector>

#include "support/device_arrays.h"
#include "support/test_device.h"
#include "weft/kernels/cuda/conv_few.h"
#include "weft/kernels/cuda/conv_product.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

[[maybe_unused]] const bool is_set = emulate_multiprocessors(3);

struct Sizes {
  int64_t rows, n, k;
};

/// x [rows, k] times w, [n, k] or by columns [k, n].
std::vector<double> multiply(const Sizes& s, const std::vector<double>& x, const std::vector<double>& w,
                             bool by_columns) {
  std::vector<double> y(size_t(s.rows * s.n));
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t c = 0; c < s.n; ++c) {
      double sum = 0;
      for (int64_t k = 0; k < s.k; ++k)
        sum += x[size_t(r * s.k + k)] * w[size_t(by_columns ? k * s.n + c : c * s.k + k)];
      y[size_t(r * s.n + c)] = sum;
    }
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("products with statistics", T, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for (const Sizes s : {Sizes{1, 64, 64},
                        {130, 64, 256},
                        {700, 128, 64},
                        {1000, 256, 128},
                        {130, 192, 256},
                        {2049, 256, 64}}) {
    CAPTURE(s.rows);
    CAPTURE(s.n);
    CAPTURE(s.k);
    REQUIRE(cuda::has_conv_product<T>(s.rows, s.n, s.k));
    const std::vector<T> x = random.normal<T>(s.rows * s.k, 2), w = random.normal<T>(s.n * s.k);
    const std::vector<double> want = multiply(s, to_double(x), to_double(w), false);
    DeviceArray<T> x_d(x), w_d(w), y_d(s.rows * s.n);
    DeviceArray<float> mean_d(s.n), var_d(s.n);
    const auto run = [&] {
      cuda::conv_product_stats(s.rows, s.n, s.k, x_d.data(), w_d.data(), y_d.data(), mean_d.data(),
                               var_d.data());
    };
    run();
    CHECK(distance(y_d.host(), want) < kTolerance<T>);
    std::vector<double> mean(static_cast<size_t>(s.n)), var = mean;
    for (size_t i = 0; i < want.size(); ++i) mean[i % size_t(s.n)] += want[i] / double(s.rows);
    for (size_t i = 0; i < want.size(); ++i)
      var[i % size_t(s.n)] += std::pow(want[i] - mean[i % size_t(s.n)], 2) / double(s.rows);
    CHECK(distance(mean_d.host(), mean) < 1e-5);
    if (s.rows > 1) CHECK(distance(var_d.host(), var) < 1e-5);
    if (s.rows == 1) CHECK(var_d.host() == std::vector<float>(size_t(s.n)));
    const std::vector<T> first = y_d.host();
    const std::vector<float> first_mean = mean_d.host(), first_var = var_d.host();
    run();
    CHECK(same_bits(y_d.host(), first));
    CHECK(same_bits(mean_d.host(), first_mean));
    CHECK(same_bits(var_d.host(), first_var));
  }
}

TEST_CASE_TEMPLATE("products that are added", T, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for (const Sizes s : {Sizes{1, 64, 64},
                        {130, 64, 256},
                        {700, 128, 64},
                        {1000, 256, 128},
                        {130, 192, 256},
                        {2049, 256, 64}}) {
    CAPTURE(s.rows);
    CAPTURE(s.n);
    CAPTURE(s.k);
    const std::vector<T> x = random.normal<T>(s.rows * s.k, 2), w = random.normal<T>(s.n * s.k),
                         before = random.normal<T>(s.rows * s.n);
    std::vector<double> want = multiply(s, to_double(x), to_double(w), true);
    for (size_t i = 0; i < want.size(); ++i) want[i] += double(float(before[i]));
    DeviceArray<T> x_d(x), w_d(w), y_d(before);
    cuda::conv_product_add(s.rows, s.n, s.k, x_d.data(), w_d.data(), y_d.data());
    CHECK(distance(y_d.host(), want) < kTolerance<T>);
  }
}

TEST_CASE("statistics of columns far from 0") {
  Random random;
  const Sizes s{3000, 64, 64};
  // The first element of each row times the same weight is what the columns have in common.
  std::vector<f16> x = random.normal<f16>(s.rows * s.k), w = random.normal<f16>(s.n * s.k);
  for (int64_t r = 0; r < s.rows; ++r) x[size_t(r * s.k)] = f16(1000.0f);
  for (int64_t c = 0; c < s.n; ++c) w[size_t(c * s.k)] = f16(2.0f);
  const std::vector<double> y = multiply(s, to_double(x), to_double(w), false);
  std::vector<double> mean(64), var(64);
  for (size_t i = 0; i < y.size(); ++i) mean[i % 64] += y[i] / double(s.rows);
  for (size_t i = 0; i < y.size(); ++i) var[i % 64] += std::pow(y[i] - mean[i % 64], 2) / double(s.rows);
  DeviceArray<f16> x_d(x), w_d(w), y_d(s.rows * s.n);
  DeviceArray<float> mean_d(64), var_d(64);
  cuda::conv_product_stats(s.rows, s.n, s.k, x_d.data(), w_d.data(), y_d.data(), mean_d.data(), var_d.data());
  CHECK(distance(mean_d.host(), mean) < 1e-6);
  CHECK(distance(var_d.host(), var) < 1e-3);
}

TEST_CASE_TEMPLATE("convolutions of few channels with statistics", T, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  const Conv2dParams shapes[] = {
      {.batch = 3,
       .in_h = 33,
       .in_w = 37,
       .in_c = 3,
       .out_c = 32,
       .kernel_h = 3,
       .kernel_w = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1},
      {.batch = 1,
       .in_h = 9,
       .in_w = 70,
       .in_c = 1,
       .out_c = 96,
       .kernel_h = 5,
       .kernel_w = 5,
       .pad_h = 2,
       .pad_w = 2},
      {.batch = 2,
       .in_h = 8,
       .in_w = 11,
       .in_c = 8,
       .out_c = 64,
       .kernel_h = 2,
       .kernel_w = 2,
       .stride_w = 3},
      {.batch = 2,
       .in_h = 13,
       .in_w = 6,
       .in_c = 2,
       .out_c = 32,
       .kernel_h = 3,
       .kernel_w = 2,
       .pad_h = 3,
       .pad_w = 1,
       .dilation_h = 2,
       .dilation_w = 3},
      {.batch = 1, .in_h = 1, .in_w = 1, .in_c = 3, .out_c = 32, .kernel_h = 1, .kernel_w = 1}};
  for (const Conv2dParams& p : shapes) {
    CAPTURE(p.in_h);
    REQUIRE(cuda::has_conv_few<T>(p));
    const int64_t rows = p.batch * p.out_h() * p.out_w(), n = p.out_c;
    const int64_t size = p.batch * p.in_h * p.in_w * p.in_c, weights = p.kernel_h * p.kernel_w * p.in_c;
    const std::vector<T> x = random.normal<T>(size, 2), w = random.normal<T>(n * weights);
    const std::vector<double> x_w = to_double(x), w_w = to_double(w);
    std::vector<double> want(size_t(rows * n)), mean(static_cast<size_t>(n)), var = mean;
    reference<double>().conv2d_forward_stats(p, x_w.data(), w_w.data(), nullptr, want.data(), mean.data(),
                                             var.data(), nullptr);
    DeviceArray<T> x_d(x, 1), w_d(w, 1), y_d(rows * n);
    DeviceArray<float> mean_d(n), var_d(n);
    cuda::conv_few_stats(p, x_d.data(), w_d.data(), y_d.data(), mean_d.data(), var_d.data());
    CHECK(distance(y_d.host(), want) < kTolerance<T>);
    CHECK(distance(mean_d.host(), mean) < 1e-5);
    CHECK(distance(var_d.host(), var) < 1e-5);

    const std::vector<T> dy = random.normal<T>(rows * n, 0.3);
    const std::vector<double> dy_w = to_double(dy);
    std::vector<double> dw(size_t(n * weights));
    reference<double>().conv2d_backward_weight(p, x_w.data(), dy_w.data(), dw.data(), nullptr);
    DeviceArray<T> dy_d(dy), dw_d(n * weights, 1);
    DeviceArray<float> memory(cuda::conv_few_weight_bytes(p) / int64_t(sizeof(float)));
    cuda::conv_few_weight(p, x_d.data(), dy_d.data(), dw_d.data(), memory.data());
    CHECK(distance(dw_d.host(), dw) < kTolerance<T>);
  }
}

TEST_CASE("what lies under no weight does not matter") {
  const Conv2dParams p{
      .batch = 1, .in_h = 8, .in_w = 8, .in_c = 3, .out_c = 32, .kernel_h = 3, .kernel_w = 3};
  std::vector<bf16> x(size_t(8 * 8 * 3), bf16(1.0f));
  x[0] = bf16(std::numeric_limits<float>::infinity());
  const std::vector<bf16> w(size_t(32 * 27), bf16(1.0f));
  DeviceArray<bf16> x_d(x), w_d(w), y_d(6 * 6 * 32);
  DeviceArray<float> mean_d(32), var_d(32);
  cuda::conv_few_stats(p, x_d.data(), w_d.data(), y_d.data(), mean_d.data(), var_d.data());
  const std::vector<bf16> y = y_d.host();
  CHECK(float(y[0]) == std::numeric_limits<float>::infinity());
  CHECK(float(y[32]) == 27);
}

TEST_CASE("what has no such product") {
  Conv2dParams p{.batch = 1, .in_h = 8, .in_w = 8, .in_c = 4, .out_c = 32, .kernel_h = 3, .kernel_w = 3};
  CHECK_FALSE(cuda::has_conv_few<bf16>(p));
  p.in_c = 3;
  CHECK(cuda::has_conv_few<bf16>(p));
  CHECK_FALSE(cuda::has_conv_few<float>(p));
  p.out_c = 48;
  CHECK_FALSE(cuda::has_conv_few<bf16>(p));

  CHECK_FALSE(cuda::has_conv_product<float>(100, 64, 64));
  CHECK_FALSE(cuda::has_conv_product<bf16>(100, 32, 64));
  CHECK_FALSE(cuda::has_conv_product<bf16>(100, 64, 96));
  CHECK_FALSE(cuda::has_conv_product<bf16>(0, 64, 64));
}

TEST_CASE("conv2d tells the statistics of a product") {
  Generator generator(5);
  const Tensor x = Tensor::normal({3, 7, 9, 64}, 0.5, 1, generator),
               w = Tensor::normal({128, 1, 1, 64}, 0, 0.1, generator);
  const Tensor x_d = cast(x.to(Device::cuda), DType::bf16), w_d = w.to(Device::cuda);
  ChannelStats stats;
  const Tensor y = conv2d(x_d, w_d, {}, {}, &stats);
  if (on_gpu() && !stats.mean.defined()) return;  // may be faster otherwise
  REQUIRE(stats.mean.defined());
  const Tensor plain = conv2d(x_d, w_d);
  const auto values = [](const Tensor& t) { return cast(t.to(Device::cpu), DType::f32).to_vector<float>(); };
  const std::vector<float> all = values(plain);
  CHECK(distance(values(y), to_double(all)) < 1e-2);
  std::vector<double> mean(128);
  for (size_t i = 0; i < all.size(); ++i) mean[i % 128] += double(all[i]) / double(all.size() / 128);
  CHECK(distance(values(stats.mean), mean) < 1e-2);
  const Tensor ones = Tensor::ones({128}, DType::f32, Device::cuda),
               zeros = Tensor::zeros({128}, DType::f32, Device::cuda);
  const auto normalized = [&](const Tensor& in, const ChannelStats& known) {
    return values(batch_norm(in, ones, zeros, zeros.clone(), ones.clone(), true, {}, {}, known));
  };
  CHECK(distance(normalized(y, stats), to_double(normalized(plain, {}))) < 1e-2);
}
