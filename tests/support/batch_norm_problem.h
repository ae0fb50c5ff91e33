// Inputs of batch norm for tests of the CUDA kernels, on the device and for the oracle.
#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "support/device_arrays.h"
#include "weft/kernels/activation.h"

namespace weft::test {

struct RowsAndChannels {
  int64_t rows, channels;
};

/// Calls f(shape, elements that the arrays are shifted by): one row, odd channels, several slices of
/// channels, full and hanging over, more rows than one walk.
template <class F>
void for_batch_norm_shapes(F&& f) {
  for (const RowsAndChannels shape : {RowsAndChannels{1, 8},
                                      {1, 1},
                                      {3, 3},
                                      {3, 24},
                                      {257, 8},
                                      {1000, 24},
                                      {131, 1},
                                      {67, 40},
                                      {33, 264},
                                      {37, 258},
                                      {5003, 16},
                                      {9, 2048},
                                      {700, 64}}) {
    CAPTURE(shape.rows);
    CAPTURE(shape.channels);
    f(shape, 0);
  }
  f(RowsAndChannels{100, 16}, 1);
}

/// Inputs of one call, on both sides.
template <class T>
struct BatchNormProblem {
  int64_t rows, channels;
  std::vector<T> x, residual;
  std::vector<float> mean, invstd, weight, bias;
  std::vector<float> learned[kMostLearnedParameters];  // for any learned activation
  std::vector<T> dy;
  DeviceArray<T> x_d, residual_d;
  DeviceArray<float> mean_d, invstd_d, weight_d, bias_d;
  std::vector<std::unique_ptr<DeviceArray<float>>> learned_d;
  std::vector<double> x_w, residual_w, dy_w, mean_w, invstd_w, weight_w, bias_w;
  std::vector<std::vector<double>> learned_w;

  BatchNormProblem(Random& random, RowsAndChannels shape, int64_t skip = 0)
      : rows(shape.rows),
        channels(shape.channels),
        x(random.normal<T>(rows * channels, 0.3)),
        residual(random.normal<T>(rows * channels)),
        mean(random.normal<float>(channels)),
        invstd(random.uniform<float>(channels, 0.5, 2)),
        weight(random.normal<float>(channels, 1, 0.5)),
        bias(random.normal<float>(channels)),
        learned{random.uniform<float>(channels, 0.4, 1), random.uniform<float>(channels, 0.5, 1.5),
                random.uniform<float>(channels, -1, -0.5), random.uniform<float>(channels, 0.1, 0.4)},
        dy(gradients(random)),
        x_d(x, skip),
        residual_d(residual, skip),
        mean_d(mean, skip),
        invstd_d(invstd),
        weight_d(weight),
        bias_d(bias),
        x_w(to_double(x)),
        residual_w(to_double(residual)),
        dy_w(to_double(dy)),
        mean_w(to_double(mean)),
        invstd_w(to_double(invstd)),
        weight_w(to_double(weight)),
        bias_w(to_double(bias)) {
    for (const auto& p : learned) {
      learned_d.push_back(std::make_unique<DeviceArray<float>>(p, skip));
      learned_w.push_back(to_double(p));
    }
  }

  /// dy: 0 where z is so close to 0, or to a threshold of srelu, that rounding may choose the slope.
  std::vector<T> gradients(Random& random) const {
    std::vector<T> values = random.normal<T>(rows * channels, 0.4);
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t c = i % size_t(channels);
      const double z =
          (double(x[i]) - double(mean[c])) * double(invstd[c]) * double(weight[c]) + double(bias[c]);
      for (const double kink : {0.0, double(learned[0][c]), double(learned[2][c])})
        if (std::abs(z - kink) < 1e-5 || std::abs(z + double(residual[i]) - kink) < 1e-5) values[i] = T(0.0f);
    }
    return values;
  }

  kernels::BatchNormArgs<T> device(Activation act, bool with_residual) {
    kernels::BatchNormArgs<T> a;
    a.rows = rows, a.channels = channels, a.x = x_d.data();
    a.mean = mean_d.data(), a.invstd = invstd_d.data(), a.weight = weight_d.data(), a.bias = bias_d.data();
    if (with_residual) a.residual = residual_d.data();
    a.activation = act, a.param = float(activation_default_param(act));
    for (size_t k = 0; k < activation_parameters(act).size(); ++k) a.parameters[k] = learned_d[k]->data();
    return a;
  }
  kernels::BatchNormArgs<double> oracle(Activation act, bool with_residual) const {
    kernels::BatchNormArgs<double> a;
    a.rows = rows, a.channels = channels, a.x = x_w.data();
    a.mean = mean_w.data(), a.invstd = invstd_w.data(), a.weight = weight_w.data(), a.bias = bias_w.data();
    if (with_residual) a.residual = residual_w.data();
    a.activation = act, a.param = activation_default_param(act);
    for (size_t k = 0; k < activation_parameters(act).size(); ++k) a.parameters[k] = learned_w[k].data();
    return a;
  }
};

/// Arrays for the gradients of a learned activation's parameters, none for a fixed one, on both sides.
struct LearnedGradients {
  std::vector<std::unique_ptr<DeviceArray<float>>> arrays;
  std::vector<std::vector<double>> expected;
  float* device[kMostLearnedParameters] = {};
  double* oracle[kMostLearnedParameters] = {};

  LearnedGradients(Activation act, int64_t channels) : expected(activation_parameters(act).size()) {
    for (size_t k = 0; k < expected.size(); ++k) {
      arrays.push_back(std::make_unique<DeviceArray<float>>(channels));
      expected[k].resize(size_t(channels));
      device[k] = arrays[k]->data(), oracle[k] = expected[k].data();
    }
  }
};

}  // namespace weft::test
