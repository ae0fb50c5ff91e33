#include "weft/layers/init.h"

#include <Eigen/Dense>
#include <cmath>
#include <utility>

#include "weft/layers/convolution.h"
#include "weft/layers/linear.h"

namespace weft::init {

Tensor constant_(Tensor t, double value) {
  t.fill(value);
  return t;
}
Tensor zeros_(Tensor t) { return constant_(std::move(t), 0); }
Tensor ones_(Tensor t) { return constant_(std::move(t), 1); }

Tensor uniform_(Tensor t, double low, double high, Generator& generator) {
  check(low <= high, "init::uniform_: the lower bound ", low, " is above the upper one, ", high);
  t.copy_from(Tensor::uniform(t.shape(), low, high, generator, t.dtype()));
  return t;
}

Tensor normal_(Tensor t, double mean, double std, Generator& generator) {
  check(std >= 0, "init::normal_: the standard deviation ", std, " is negative");
  t.copy_from(Tensor::normal(t.shape(), mean, std, generator, t.dtype()));
  return t;
}

Fans fans(const Tensor& weight) {
  const Shape& s = weight.shape();
  check(s.ndim() >= 2, "init: a weight of shape ", s,
        " has no fan; it needs at least two dimensions, [out, ..., in]");
  int64_t window = s.numel(1, s.ndim() - 1);
  return {window * s[-1], window * s[0]};
}

namespace {

double kaiming_std(const Tensor& weight, const KaimingOptions& options) {
  Fans f = fans(weight);
  auto fan = double(options.mode == FanMode::fan_in ? f.in : f.out);
  double gain = options.gain.value_or(std::sqrt(2 / (1 + options.a * options.a)));
  return fan > 0 ? gain / std::sqrt(fan) : 0;
}

double xavier_std(const Tensor& weight, double gain) {
  Fans f = fans(weight);
  return f.in + f.out > 0 ? gain * std::sqrt(2 / double(f.in + f.out)) : 0;
}

// A uniform distribution on [-bound, bound) has the standard deviation bound / sqrt(3).
Tensor uniform_of_std(Tensor t, double std, Generator& generator) {
  double bound = std::sqrt(3.0) * std;
  return uniform_(std::move(t), -bound, bound, generator);
}

}  // namespace

Tensor kaiming_normal_(Tensor weight, const KaimingOptions& options, Generator& generator) {
  double std = kaiming_std(weight, options);
  return normal_(std::move(weight), 0, std, generator);
}

Tensor kaiming_uniform_(Tensor weight, const KaimingOptions& options, Generator& generator) {
  double std = kaiming_std(weight, options);
  return uniform_of_std(std::move(weight), std, generator);
}

void kaiming_normal_all_(Module& root, Generator& generator) {
  const auto start = [&](const Tensor& weight, const Tensor& bias) {
    kaiming_normal_(weight, {}, generator);
    if (bias.defined()) zeros_(bias);
  };
  using Convolution = ConvolutionLayer<Conv2dLayerOptions>;
  using Transposed = ConvolutionLayer<ConvTransposeLayerOptions>;
  root.visit([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Convolution*>(&module)) start(conv->weight, conv->bias);
    if (auto* conv = dynamic_cast<Transposed*>(&module)) start(conv->weight, conv->bias);
    if (auto* linear = dynamic_cast<Linear*>(&module)) start(linear->weight, linear->bias);
  });
}

Tensor xavier_normal_(Tensor weight, double gain, Generator& generator) {
  double std = xavier_std(weight, gain);
  return normal_(std::move(weight), 0, std, generator);
}

Tensor xavier_uniform_(Tensor weight, double gain, Generator& generator) {
  double std = xavier_std(weight, gain);
  return uniform_of_std(std::move(weight), std, generator);
}

Tensor orthogonal_(Tensor weight, double gain, Generator& generator) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  fans(weight);  // at least a matrix
  if (weight.numel() == 0) return weight;
  const int64_t rows = weight.size(0), cols = weight.numel() / rows;
  // QR needs a tall matrix; a wide weight is made as the transpose of one.
  const int64_t tall = std::max(rows, cols), thin = std::min(rows, cols);
  Tensor draw = Tensor::normal({tall, thin}, 0, 1, generator, DType::f64);
  Matrix normal = Eigen::Map<const Matrix>(draw.data<double>(), tall, thin);
  Eigen::HouseholderQR<Matrix> qr(normal);
  Matrix q = qr.householderQ() * Matrix::Identity(tall, thin);
  // QR fixes Q only up to the signs of its columns; with R's diagonal positive Q is uniformly distributed
  // (Mezzadri, 2007).
  for (int64_t j = 0; j < thin; ++j)
    if (qr.matrixQR()(j, j) < 0) q.col(j) = -q.col(j);
  q *= gain;
  Tensor result = Tensor::empty(weight.shape(), DType::f64);
  Eigen::Map<Matrix> out(result.data<double>(), rows, cols);
  if (rows == tall)
    out = q;
  else
    out = q.transpose();
  weight.copy_from(result);
  return weight;
}

double calculate_gain(Activation activation, std::optional<double> param) {
  switch (activation) {
    case Activation::identity:
    case Activation::sigmoid:
      return 1;
    case Activation::tanh:
      return 5.0 / 3;
    case Activation::relu:
      return std::sqrt(2.0);
    case Activation::leaky_relu: {
      double slope = param.value_or(activation_default_param(activation));
      return std::sqrt(2 / (1 + slope * slope));
    }
    default:
      fail("init::calculate_gain: no gain is known for ", activation_name(activation),
           "; pass one, as in kaiming_normal_(weight, {.gain = 1.4})");
  }
}

}  // namespace weft::init
