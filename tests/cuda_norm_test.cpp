// Batch norm on the GPU against the reference in double.
#include <cmath>
#include <limits>
#include <vector>

#include "support/batch_norm_problem.h"
#include "support/light.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/activations.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

template <class T>
using Problem = BatchNormProblem<T>;
const std::vector<Activation> kActivations =
    light() ? std::vector{Activation::identity, Activation::mish, Activation::gelu, Activation::srelu}
            : std::vector{Activation::identity, Activation::relu,  Activation::mish,
                          Activation::silu,     Activation::gelu,  Activation::leaky_relu,
                          Activation::prelu,    Activation::srelu, Activation::swish_beta};

template <class T>
struct Stats {
  std::vector<float> mean, var;
};
template <class T>
Stats<T> stats(RowsAndChannels shape, const std::vector<T>& x, int64_t skip = 0) {
  DeviceArray<T> x_d(x, skip);
  DeviceArray<float> mean(shape.channels), var(shape.channels);
  cuda::table<T>().batch_norm_stats(shape.rows, shape.channels, x_d.data(), mean.data(), var.data());
  return {mean.host(), var.host()};
}
template <class T>
void expect_stats(RowsAndChannels shape, const std::vector<T>& x, int64_t skip = 0) {
  const Stats<T> actual = stats(shape, x, skip);
  std::vector<double> mean(size_t(shape.channels)), var(size_t(shape.channels));
  reference<double>().batch_norm_stats(shape.rows, shape.channels, to_double(x).data(), mean.data(),
                                       var.data());
  CHECK(distance(actual.mean, mean) < 1e-5);
  CHECK(distance(actual.var, var) < 1e-5);
}

}  // namespace

TEST_CASE_TEMPLATE("statistics of the channels", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_batch_norm_shapes([&](RowsAndChannels shape, int64_t skip) {
    const std::vector<T> x = random.normal<T>(shape.rows * shape.channels, 0.5, 2);
    expect_stats(shape, x, skip);
    const Stats<T> once = stats(shape, x), again = stats(shape, x);
    CHECK(same_bits(once.mean, again.mean));
    CHECK(same_bits(once.var, again.var));
  });
}

TEST_CASE("statistics far from zero, and with a first row far from the others") {
  Random random;
  CAPTURE(random.seed());
  const RowsAndChannels shape{3000, 8};
  std::vector<float> x = random.normal<float>(shape.rows * shape.channels, 1000, 0.5);
  expect_stats(shape, x);
  for (int c = 0; c < shape.channels; ++c) x[size_t(c)] = -1e5f;
  expect_stats(shape, x);
  expect_stats(shape, std::vector<float>(size_t(shape.rows * shape.channels), 0.1f));
}

TEST_CASE_TEMPLATE("statistics of what is not finite", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  const double inf = std::numeric_limits<double>::infinity();
  for (const RowsAndChannels shape : {RowsAndChannels{500, 8}, RowsAndChannels{500, 3}}) {
    std::vector<T> x = random.normal<T>(shape.rows * shape.channels);
    x[0] = T(inf);
    x[size_t(77 * shape.channels + 1)] = T(-inf);
    x[size_t(499 * shape.channels + 2)] = T(std::nan(""));
    expect_stats(shape, x);
    x[size_t(78 * shape.channels)] = T(inf);
    x[size_t(79 * shape.channels + 1)] = T(inf);
    expect_stats(shape, x);
  }
}

TEST_CASE("running values follow") {
  Random random;
  CAPTURE(random.seed());
  for (const int64_t channels : {1, 3, 8, 24, 300})
    for (const bool running : {true, false}) {
      const std::vector<float> mean = random.normal<float>(channels),
                               var = random.uniform<float>(channels, 0, 2);
      const std::vector<float> running_mean = random.normal<float>(channels),
                               running_var = random.uniform<float>(channels, 0, 2);
      DeviceArray<float> mean_d(mean), var_d(var), running_mean_d(running_mean), running_var_d(running_var),
          invstd_d(channels);
      cuda::table<bf16>().batch_norm_update(50, channels, 1e-5, 0.1, mean_d.data(), var_d.data(),
                                            running ? running_mean_d.data() : nullptr,
                                            running ? running_var_d.data() : nullptr, invstd_d.data());
      std::vector<double> expected_mean = to_double(running_mean), expected_var = to_double(running_var),
                          invstd(static_cast<size_t>(channels));
      reference<double>().batch_norm_update(50, channels, 1e-5, 0.1, to_double(mean).data(),
                                            to_double(var).data(), running ? expected_mean.data() : nullptr,
                                            running ? expected_var.data() : nullptr, invstd.data());
      CHECK(distance(invstd_d.host(), invstd) < 1e-6);
      CHECK(distance(running_mean_d.host(), expected_mean) < 1e-6);
      CHECK(distance(running_var_d.host(), expected_var) < 1e-6);
    }
}

TEST_CASE_TEMPLATE("forward", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_batch_norm_shapes([&](RowsAndChannels shape, int64_t skip) {
    Problem<T> p(random, shape, skip);
    for (const Activation act : kActivations)
      for (const bool residual : {false, true}) {
        CAPTURE(activation_name(act));
        CAPTURE(residual);
        std::vector<double> expected(p.x.size());
        reference<double>().batch_norm_forward(p.oracle(act, residual), expected.data());
        DeviceArray<T> y(int64_t(p.x.size()), skip);
        cuda::table<T>().batch_norm_forward(p.device(act, residual), y.data());
        CHECK(distance(y.host(), expected) < kTolerance<T>);
      }
    std::vector<double> expected(p.x.size());
    reference<double>().batch_norm_forward(p.oracle(Activation::mish, true), expected.data());
    cuda::table<T>().batch_norm_forward(p.device(Activation::mish, true), p.residual_d.data());
    CHECK(distance(p.residual_d.host(), expected) < kTolerance<T>);
  });
}

TEST_CASE_TEMPLATE("backward, the reduction", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_batch_norm_shapes([&](RowsAndChannels shape, int64_t skip) {
    Problem<T> p(random, shape, skip);
    for (const bool residual : {false, true})
      for (size_t i = 0; i < kActivations.size(); ++i) {
        const Activation act = kActivations[i];
        const bool write_g = i % 2 != size_t(residual);  // in turns
        CAPTURE(activation_name(act));
        CAPTURE(residual);
        CAPTURE(write_g);
        std::vector<double> g(p.x.size()), dweight(size_t(p.channels)), dbias(size_t(p.channels));
        LearnedGradients learned(act, p.channels), learned_again(act, p.channels);
        reference<double>().batch_norm_backward_reduce(p.oracle(act, residual), p.dy_w.data(), g.data(),
                                                       dweight.data(), dbias.data(), learned.oracle);
        DeviceArray<T> dy(p.dy, skip), g_d(int64_t(p.x.size()), skip);
        DeviceArray<float> dweight_d(p.channels), dbias_d(p.channels);
        cuda::table<T>().batch_norm_backward_reduce(p.device(act, residual), dy.data(),
                                                    write_g ? g_d.data() : nullptr, dweight_d.data(),
                                                    dbias_d.data(), learned.device);
        CHECK(distance(dweight_d.host(), dweight) < 1e-4);
        CHECK(distance(dbias_d.host(), dbias) < 1e-4);
        for (size_t k = 0; k < learned.arrays.size(); ++k)
          CHECK(distance(learned.arrays[k]->host(), learned.expected[k]) < 1e-4);
        if (write_g) CHECK(distance(g_d.host(), g) < kTolerance<T>);
        DeviceArray<float> again(p.channels), unused(p.channels);
        cuda::table<T>().batch_norm_backward_reduce(p.device(act, residual), dy.data(),
                                                    write_g ? dy.data() : nullptr, again.data(),
                                                    unused.data(), learned_again.device);
        CHECK(same_bits(dweight_d.host(), again.host()));
        for (size_t k = 0; k < learned.arrays.size(); ++k)
          CHECK(same_bits(learned.arrays[k]->host(), learned_again.arrays[k]->host()));
        if (write_g) CHECK(same_bits(dy.host(), g_d.host()));
      }
  });
}

TEST_CASE_TEMPLATE("backward, the input's gradient", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_batch_norm_shapes([&](RowsAndChannels shape, int64_t skip) {
    Problem<T> p(random, shape, skip);
    const std::vector<float> dweight = random.normal<float>(p.channels, 0, double(p.rows)),
                             dbias = random.normal<float>(p.channels, 0, double(p.rows));
    DeviceArray<float> dweight_d(dweight), dbias_d(dbias);
    for (const Activation act : kActivations)
      for (const bool residual : {false, true})
        for (const bool training : {false, true}) {
          CAPTURE(activation_name(act));
          CAPTURE(residual);
          CAPTURE(training);
          std::vector<double> dx(p.x.size());
          reference<double>().batch_norm_backward_input(p.oracle(act, residual), p.dy_w.data(),
                                                        to_double(dweight).data(), to_double(dbias).data(),
                                                        training, dx.data());
          DeviceArray<T> dy(p.dy, skip), dx_d(int64_t(p.x.size()), skip);
          const BatchNormArgs<T> a = p.device(act, residual);
          cuda::table<T>().batch_norm_backward_input(a, dy.data(), dweight_d.data(), dbias_d.data(), training,
                                                     dx_d.data());
          CHECK(distance(dx_d.host(), dx) < kTolerance<T>);
          cuda::table<T>().batch_norm_backward_input(a, dy.data(), dweight_d.data(), dbias_d.data(), training,
                                                     dy.data());
          CHECK(same_bits(dy.host(), dx_d.host()));
        }
  });
}

TEST_CASE_TEMPLATE("backward, x does not go through the statistics in evaluation", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  Problem<T> p(random, {6, 8});
  p.x[11] = T(std::nan(""));
  p.x_d.upload(p.x);
  DeviceArray<T> dy(p.dy), dx(6 * 8);
  DeviceArray<float> unused(8);
  cuda::table<T>().batch_norm_backward_input(p.device(Activation::identity, false), dy.data(), unused.data(),
                                             unused.data(), false, dx.data());
  CHECK(std::isfinite(double(dx.host()[11])));
}

TEST_CASE("Mish for 16 bits is good to 1e-5 of itself, its slope to 3e-7") {
  for (double z = -90; z < 120; z += 1.0 / 64) {
    CAPTURE(z);
    const double value = activations::mish::forward(z, 0.0), slope = activations::mish::derivative(z, 0.0);
    // e^z is 0 on the device where it is below 2^-126.
    CHECK(std::abs(double(cuda::short_mish(float(z))) - value) <=
          1e-5 * std::abs(value) + (z < -85 ? 1e-34 : 0));
    CHECK(std::abs(double(cuda::short_mish_slope(float(z))) - slope) < 3e-7);
  }
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  CHECK(std::isnan(cuda::short_mish(nan)));
  CHECK(std::isnan(cuda::short_mish_slope(nan)));
  CHECK(cuda::short_mish(inf) == inf);
  CHECK(cuda::short_mish(-1e30f) == 0);
  CHECK(cuda::short_mish_slope(inf) == 1);
  CHECK(cuda::short_mish_slope(-1e30f) == 0);
}
