// Two batch norms that are added, on the GPU, against the reference in double; on the emulated device with as
// many blocks as on a GPU.
#include <cmath>
#include <vector>

#include "support/batch_norm_problem.h"
#include "support/test_device.h"
#include "weft/kernels/cuda.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

[[maybe_unused]] const bool is_set = emulate_multiprocessors(132);

const std::vector<RowsAndChannels> kShapes = {{2, 8},     {257, 3},   {1000, 24}, {33, 264},
                                              {5003, 16}, {2003, 67}, {9001, 72}};
const std::vector<Activation> kActivations = {Activation::identity, Activation::relu, Activation::mish,
                                              Activation::silu, Activation::gelu};

}  // namespace

TEST_CASE_TEMPLATE("two batch norms and their gradients", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for (const RowsAndChannels shape : kShapes) {
    CAPTURE(shape.rows);
    CAPTURE(shape.channels);
    BatchNormProblem<T> p(random, shape), q(random, shape);
    const size_t n = p.x.size(), c = size_t(shape.channels);
    for (const Activation act : kActivations) {
      CAPTURE(activation_name(act));
      std::vector<double> side(n), y(n);
      const BatchNormArgs<double> q_oracle = q.oracle(Activation::identity, false);
      reference<double>().batch_norm_forward(q_oracle, side.data());
      BatchNormArgs<double> p_oracle = p.oracle(act, false);
      p_oracle.residual = side.data();
      reference<double>().batch_norm_forward(p_oracle, y.data());
      DeviceArray<T> out{int64_t(n)};
      const BatchNormArgs<T> a = p.device(act, false), b = q.device(Activation::identity, false);
      cuda::table<T>().batch_norm_pair_forward(a, b, out.data());
      CHECK(distance(out.host(), y) < kTolerance<T>);

      // Where z is next to 0 rounding may choose relu's slope.
      std::vector<T> dy = p.dy;
      for (size_t i = 0; i < n; ++i) {
        const double z =
            (p.x_w[i] - p.mean_w[i % c]) * p.invstd_w[i % c] * p.weight_w[i % c] + p.bias_w[i % c] + side[i];
        if (std::abs(z) < 1e-4) dy[i] = T(0.0f);
      }
      const std::vector<double> dy_w = to_double(dy);
      std::vector<double> g(n), dweight(c), dbias(c), side_dweight(c), side_dbias(c), dx(n), side_dx(n);
      reference<double>().batch_norm_backward_reduce(p_oracle, dy_w.data(), g.data(), dweight.data(),
                                                     dbias.data(), nullptr);
      reference<double>().batch_norm_backward_input(p_oracle, dy_w.data(), dweight.data(), dbias.data(), true,
                                                    dx.data());
      reference<double>().batch_norm_backward_reduce(q_oracle, g.data(), nullptr, side_dweight.data(),
                                                     side_dbias.data(), nullptr);
      reference<double>().batch_norm_backward_input(q_oracle, g.data(), side_dweight.data(),
                                                    side_dbias.data(), true, side_dx.data());
      DeviceArray<T> dy_d(dy), dx_d{int64_t(n)}, side_dx_d{int64_t(n)};
      DeviceArray<float> dweight_d(shape.channels), dbias_d(shape.channels), side_dweight_d(shape.channels),
          side_dbias_d(shape.channels);
      const auto backward = [&](T* to, T* to_side) {
        cuda::table<T>().batch_norm_pair_backward(
            a, b, dy_d.data(), BatchNormGradients<T>{to, dweight_d.data(), dbias_d.data()},
            BatchNormGradients<T>{to_side, side_dweight_d.data(), side_dbias_d.data()});
      };
      backward(dx_d.data(), side_dx_d.data());
      CHECK(distance(dweight_d.host(), dweight) < 1e-4);
      CHECK(distance(dbias_d.host(), dbias) < 1e-4);
      CHECK(distance(side_dweight_d.host(), side_dweight) < 1e-4);
      CHECK(distance(side_dbias_d.host(), side_dbias) < 1e-4);
      CHECK(distance(dx_d.host(), dx) < kTolerance<T>);
      CHECK(distance(side_dx_d.host(), side_dx) < kTolerance<T>);
      const std::vector<T> first = dx_d.host(), side_first = side_dx_d.host();
      const std::vector<float> dweight_first = side_dweight_d.host();
      backward(dy_d.data(), side_dx_d.data());  // in place
      CHECK(same_bits(dy_d.host(), first));
      CHECK(same_bits(side_dx_d.host(), side_first));
      CHECK(same_bits(side_dweight_d.host(), dweight_first));
    }
  }
}

TEST_CASE("a pair is the two of which it is made, to their running values") {
  Generator generator(3);
  const auto input = [&](Tensor x) {
    return BatchNormInput{x.to(Device::cuda), Tensor::normal({7}, 1, 0.2, generator).to(Device::cuda),
                          Tensor::normal({7}, 0, 1, generator).to(Device::cuda),
                          Tensor::normal({7}, 0, 1, generator).to(Device::cuda),
                          Tensor::uniform({7}, 0.5, 2, generator).to(Device::cuda)};
  };
  BatchNormInput main = input(Tensor::normal({5, 3, 7}, 0.5, 2, generator)),
                 side = input(Tensor::normal({5, 3, 7}, -1, 3, generator));
  BatchNormInput main_again = main, side_again = side;
  for (BatchNormInput* in : {&main_again, &side_again})
    in->running_mean = in->running_mean.clone(), in->running_var = in->running_var.clone();
  const BatchNormOptions o{.momentum = 0.3, .eps = 1e-3, .activation = Activation::mish},
      side_o{.momentum = 0.2, .eps = 1e-4};
  const Tensor y = batch_norm_pair(main, side, o, side_o);
  const Tensor residual = batch_norm(side_again.x, side.weight, side.bias, side_again.running_mean,
                                     side_again.running_var, true, side_o);
  const Tensor want = batch_norm(main.x, main.weight, main.bias, main_again.running_mean,
                                 main_again.running_var, true, o, residual);
  const auto values = [](const Tensor& t) { return t.to(Device::cpu).to_vector<float>(); };
  const auto wide = [&](const Tensor& t) {
    const auto v = values(t);
    return std::vector<double>(v.begin(), v.end());
  };
  CHECK(distance(values(y), wide(want)) < 1e-6);
  CHECK(values(main.running_mean) == values(main_again.running_mean));
  CHECK(values(side.running_var) == values(side_again.running_var));
}

TEST_CASE("a pair of different shapes is an error") {
  const Tensor v = Tensor::ones({4}, DType::f32, Device::cuda);
  const auto input = [&](Shape shape) {
    return BatchNormInput{Tensor::ones(shape, DType::f32, Device::cuda), v, v, v.clone(), v.clone()};
  };
  CHECK_THROWS_AS(batch_norm_pair(input({3, 2, 4}), input({3, 1, 4})), Error);
  CHECK_THROWS_AS(batch_norm_pair(input({1, 4}), input({1, 4})), Error);
  CHECK_THROWS_AS(batch_norm_pair(input({3, 4}), input({3, 4}), {}, {.activation = Activation::relu}), Error);
}
