// Batch norm in one pass by blocks that wait for each other, against the reference in double. How many there
// are is chosen by the number of multiprocessors, of which the emulated device has 36 here: fewer need
// smaller tensors.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "support/batch_norm_problem.h"
#include "support/light.h"
#include "support/test_device.h"
#include "weft/kernels/cuda.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

[[maybe_unused]] const bool is_set = emulate_multiprocessors(36);

/// Slices of 1 to 17 blocks with 2 and 4 lanes; rows that no number of threads divides; fewer rows
/// than threads. Channels for 36 multiprocessors, or as many times more as the device has more.
std::vector<RowsAndChannels> shapes() {
  const int64_t times = std::max(1, cuda::device_info().multiprocessors / 33);
  std::vector<RowsAndChannels> list = {{3, 512},    {300, 512}, {517, 256}, {300, 256},
                                       {1001, 128}, {2101, 64}, {37, 1024}};
  for (RowsAndChannels& shape : list) shape.channels *= times;
  return list;
}
/// So many rows that threads have all in hand that they can.
RowsAndChannels full(int64_t rows) { return {rows, shapes()[0].channels}; }
/// Only from compute capability 9.0 on.
bool has_kernels() {
  const bool has = cuda::device_info().major >= 9;
  if (!has) MESSAGE("not run: this GPU can't launch kernels early");
  return has;
}
constexpr double kEps = 1e-5, kMomentum = 0.1;

struct Batch {
  std::vector<double> mean, var, invstd;
};
Batch batch_of(RowsAndChannels shape, const std::vector<double>& x) {
  const size_t c = size_t(shape.channels);
  Batch b{std::vector<double>(c), std::vector<double>(c), std::vector<double>(c)};
  reference<double>().batch_norm_stats(shape.rows, shape.channels, x.data(), b.mean.data(), b.var.data());
  for (size_t i = 0; i < c; ++i) b.invstd[i] = 1 / std::sqrt(b.var[i] + kEps);
  return b;
}

/// What a forward gives.
template <class T>
struct Forward {
  std::vector<T> y;
  std::vector<float> mean, invstd, running_mean, running_var;
};
template <class T>
Forward<T> forward(BatchNormProblem<T>& p, Activation act, bool residual) {
  const int64_t c = p.channels;
  DeviceArray<T> y(int64_t(p.x.size()));
  DeviceArray<float> mean(c), invstd(c), running_mean(std::vector<float>(size_t(c), 0.25f)),
      running_var(std::vector<float>(size_t(c), 3.0f));
  REQUIRE(cuda::table<T>().batch_norm_forward_once(p.device(act, residual), kEps, kMomentum, mean.data(),
                                                   running_mean.data(), running_var.data(), invstd.data(),
                                                   y.data()));
  return {y.host(), mean.host(), invstd.host(), running_mean.host(), running_var.host()};
}

const std::vector<Activation> kActivations =
    light() ? std::vector{Activation::identity, Activation::mish}
            : std::vector{Activation::identity, Activation::relu, Activation::mish, Activation::silu};

}  // namespace

TEST_CASE_TEMPLATE("forward with the batch's statistics", T, bf16, f16) {
  if (!has_kernels()) return;
  Random random;
  CAPTURE(random.seed());
  const auto check = [&](RowsAndChannels shape, const std::vector<Activation>& activations) {
    CAPTURE(shape.rows);
    CAPTURE(shape.channels);
    BatchNormProblem<T> p(random, shape);
    const Batch batch = batch_of(shape, p.x_w);
    p.mean_w = batch.mean, p.invstd_w = batch.invstd;
    for (const Activation act : activations)
      for (const bool residual : {false, true}) {
        CAPTURE(activation_name(act));
        CAPTURE(residual);
        const Forward<T> f = forward(p, act, residual);
        std::vector<double> expected(p.x.size());
        reference<double>().batch_norm_forward(p.oracle(act, residual), expected.data());
        CHECK(distance(f.y, expected) < kTolerance<T>);
        CHECK(distance(f.mean, batch.mean) < 1e-5);
        CHECK(distance(f.invstd, batch.invstd) < 1e-5);
        std::vector<double> running_mean(size_t(p.channels), 0.25), running_var(size_t(p.channels), 3.0),
            unused(size_t(p.channels));
        reference<double>().batch_norm_update(p.rows, p.channels, kEps, kMomentum, batch.mean.data(),
                                              batch.var.data(), running_mean.data(), running_var.data(),
                                              unused.data());
        CHECK(distance(f.running_mean, running_mean) < 1e-5);
        CHECK(distance(f.running_var, running_var) < 1e-5);
        CHECK(same_bits(forward(p, act, residual).y, f.y));
      }
  };
  for (const RowsAndChannels shape : shapes()) check(shape, kActivations);
  check(full(4001), {Activation::mish});
}

TEST_CASE("statistics far from zero, and with a value far from the others") {
  if (!has_kernels()) return;
  Random random;
  CAPTURE(random.seed());
  const RowsAndChannels shape{1200, 256};
  BatchNormProblem<f16> p(random, shape);
  p.x = random.normal<f16>(shape.rows * shape.channels, 1000, 5);
  p.x[7] = f16(-60000.0f);
  p.x_d.upload(p.x);
  const Batch batch = batch_of(shape, to_double(p.x));
  const Forward<f16> f = forward(p, Activation::identity, false);
  CHECK(distance(f.mean, batch.mean) < 1e-6);
  CHECK(distance(f.invstd, batch.invstd) < 1e-5);
}

TEST_CASE_TEMPLATE("what is not finite stays in its channel", T, bf16, f16) {
  if (!has_kernels()) return;
  Random random;
  CAPTURE(random.seed());
  BatchNormProblem<T> p(random, {900, 256});
  p.x[256 * 300 + 5] = T(std::numeric_limits<float>::quiet_NaN());
  p.x[256 * 301 + 9] = T(std::numeric_limits<float>::infinity());
  p.x_d.upload(p.x);
  const Forward<T> f = forward(p, Activation::mish, false);
  for (size_t c = 0; c < 256; ++c) {
    CAPTURE(c);
    CHECK(std::isfinite(f.invstd[c]) == (c != 5 && c != 9));
    CHECK(std::isfinite(f.running_mean[c]) == (c != 5 && c != 9));
    CHECK(std::isfinite(float(f.y[c])) == (c != 5 && c != 9));
  }
}

TEST_CASE_TEMPLATE("backward", T, bf16, f16) {
  if (!has_kernels()) return;
  Random random;
  CAPTURE(random.seed());
  const auto check = [&](RowsAndChannels shape, const std::vector<Activation>& activations) {
    CAPTURE(shape.rows);
    CAPTURE(shape.channels);
    BatchNormProblem<T> p(random, shape);
    const size_t c = size_t(p.channels), n = p.x.size();
    for (const Activation act : activations)
      for (const bool residual : {false, true}) {
        CAPTURE(activation_name(act));
        CAPTURE(residual);
        std::vector<double> dweight(c), dbias(c), g(n), dx(n);
        reference<double>().batch_norm_backward_reduce(p.oracle(act, residual), p.dy_w.data(), g.data(),
                                                       dweight.data(), dbias.data(), nullptr);
        reference<double>().batch_norm_backward_input(p.oracle(act, residual), p.dy_w.data(), dweight.data(),
                                                      dbias.data(), true, dx.data());
        DeviceArray<T> dy(p.dy), g_d(p.dy), dx_d{int64_t(n)};
        DeviceArray<float> dweight_d(p.channels), dbias_d(p.channels);
        const auto run = [&](T* to_g, T* to) {
          REQUIRE(cuda::table<T>().batch_norm_backward_once(p.device(act, residual), dy.data(),
                                                            residual ? to_g : nullptr, dweight_d.data(),
                                                            dbias_d.data(), to));
        };
        run(g_d.data(), dx_d.data());
        CHECK(distance(dweight_d.host(), dweight) < 1e-4);
        CHECK(distance(dbias_d.host(), dbias) < 1e-4);
        CHECK(distance(dx_d.host(), dx) < kTolerance<T>);
        if (residual) CHECK(distance(g_d.host(), g) < kTolerance<T>);
        const std::vector<float> first = dweight_d.host();
        DeviceArray<T> again{int64_t(n)};
        run(dy.data(), residual ? again.data() : dy.data());  // g or dx in the place of dy
        CHECK(same_bits(dy.host(), residual ? g_d.host() : dx_d.host()));
        if (residual) CHECK(same_bits(again.host(), dx_d.host()));
        CHECK(same_bits(dweight_d.host(), first));
      }
  };
  for (const RowsAndChannels shape : shapes()) check(shape, kActivations);
  check(full(2001), {Activation::mish});
}

TEST_CASE("where there is no room, or no kernel, nothing is done") {
  if (!has_kernels()) return;
  Random random;
  const auto tries = [&](RowsAndChannels shape, Activation act) {
    BatchNormProblem<bf16> p(random, shape);
    const std::vector<bf16> before(p.x.size(), bf16(7.0f));
    DeviceArray<bf16> y(before), dy(p.dy);
    DeviceArray<float> a(p.channels), b(p.channels), c(p.channels), d(p.channels);
    const bool forward = cuda::table<bf16>().batch_norm_forward_once(
        p.device(act, false), kEps, kMomentum, a.data(), c.data(), d.data(), b.data(), y.data());
    const bool backward = cuda::table<bf16>().batch_norm_backward_once(p.device(act, false), dy.data(),
                                                                       nullptr, a.data(), b.data(), y.data());
    CHECK(same_bits(y.host(), before) == !(forward || backward));
    return forward || backward;
  };
  CHECK(tries({64, 1024}, Activation::mish));
  CHECK_FALSE(tries({800 * cuda::device_info().multiprocessors, 256}, Activation::mish));
  CHECK_FALSE(tries({64, 1032}, Activation::mish));
  CHECK(tries({64, 16}, Activation::mish));
  CHECK_FALSE(tries({64, 1024}, Activation::gelu));
  CHECK_FALSE(tries({64, 1024}, Activation::prelu));
  CHECK((cuda::table<float>().batch_norm_forward_once == nullptr));
}
