// Layers and initialisers: shapes, names of state, modes, statistics, gradients of the composed ones, errors.
#include "weft/layers/layers.h"
#include "support/errors.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "weft/engine/gradcheck.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"
#include "weft/kernels/kernels.h"
#include "weft/optim/optimizers/sgd.h"

using namespace weft;

namespace {

std::vector<std::string> names_of(const Module& m) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : m.state_dict()) names.push_back(name);
  return names;
}

double max_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  double d = 0;
  for (int64_t i = 0; i < a.numel(); ++i) d = std::max(d, std::abs(a.at(i) - b.at(i)));
  return d;
}

struct Moments {
  double mean = 0, std = 0, low = INFINITY, high = -INFINITY;
};
Moments moments(const Tensor& t) {
  Moments m;
  double square = 0;
  for (int64_t i = 0; i < t.numel(); ++i) {
    const double x = t.at(i);
    m.mean += x / double(t.numel());
    square += x * x / double(t.numel());
    m.low = std::min(m.low, x), m.high = std::max(m.high, x);
  }
  m.std = std::sqrt(square - m.mean * m.mean);
  return m;
}

}  // namespace

TEST_CASE("Conv2d: shapes, state, description") {
  Module root;
  Conv2d plain{root, "plain", 3, 8};
  CHECK(names_of(plain) == std::vector<std::string>{"weight", "bias"});
  CHECK(names_of(root) == std::vector<std::string>{"plain.weight", "plain.bias"});
  CHECK(plain.weight.shape() == Shape{8, 3, 3, 3});
  CHECK(plain(Tensor::ones({2, 7, 9, 3})).shape() == Shape{2, 5, 7, 8});
  CHECK(plain.description() == "Conv2d(3, 8, kernel 3)");

  Conv2d rich{root,
              "rich",
              6,
              8,
              {.kernel = 5, .stride = 2, .padding = 1, .dilation = 2, .groups = 2, .bias = false}};
  CHECK(names_of(rich) == std::vector<std::string>{"weight"});
  CHECK(rich.weight.shape() == Shape{8, 5, 5, 3});
  CHECK(rich(Tensor::ones({1, 13, 11, 6})).shape() == Shape{1, 4, 3, 8});
  CHECK(rich.description() == "Conv2d(6, 8, kernel 5, stride 2, padding 1, dilation 2, groups 2, no bias)");
}

TEST_CASE("Linear: shapes and state, the value is x W^T + b") {
  Module root;
  Linear fc{root, "fc", 2, 3};
  fc.weight.copy_from(Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2}));
  fc.bias.copy_from(Tensor::from<float>({0.5, 0, -1}, {3}));
  CHECK(fc(Tensor::from<float>({1, -1}, {1, 2})).to_vector<float>() == std::vector<float>{-0.5, -1, -2});
  CHECK(fc(Tensor::ones({4, 5, 2})).shape() == Shape{4, 5, 3});
  Linear bare{root, "bare", 2, 3, {.bias = false}};
  CHECK(names_of(bare) == std::vector<std::string>{"weight"});
  CHECK(bare.description() == "Linear(2, 3, no bias)");
}

TEST_CASE("optimize_for_inference keeps packed weights, and notices what changes them") {
  Sequential net, twin;  // the twin stays as it is
  for (Sequential* s : {&net, &twin}) {
    s->emplace<Conv2d>("a", 32, 48, Conv2dLayerOptions{.padding = 1});
    s->emplace<Conv2d>("b", 48, 64, Conv2dLayerOptions{.kernel = 1, .bias = false});
    s->emplace<Conv2d>("c", 64, 3, Conv2dLayerOptions{.stride = 2});
  }
  const Tensor x = Tensor::uniform({2, 4, 5, 32}, -1, 1), large = Tensor::uniform({1, 9, 9, 32}, -1, 1);
  const auto off = [&](const Tensor& in) {
    twin.load_state_dict(net.state_dict());
    const Tensor y = net(in);
    CHECK(max_difference(net(in), y) == 0);
    return max_difference(y, twin(in));
  };
  CHECK(!net.optimized_for_inference());
  CHECK(off(x) == 0);
  net.optimize_for_inference();
  CHECK(net.optimized_for_inference());
  CHECK(net[1].optimized_for_inference());
  CHECK(!net.training());
  CHECK(off(x) < 1e-5);
  CHECK(off(large) < 1e-5);
  CHECK(off(x) < 1e-5);

  const Tensor weight = net.parameters()[0].tensor;
  weight.copy_from(Tensor::uniform(weight.shape(), -1, 1));
  CHECK(off(x) < 1e-5);
  weight.fill(0.1);
  CHECK(off(x) < 1e-5);
  {
    Tape tape;
    tape.backward(sum(net(x)));
    Tape other;
    other.backward(sum(twin(x)));
  }
  for (size_t i = 0; i < net.parameters().size(); ++i)
    CHECK(max_difference(net.parameters()[i].tensor.grad(), twin.parameters()[i].tensor.grad()) < 1e-3);
  optim::SGD(net.parameters(), {.lr = 0.01}).step();
  CHECK(off(x) < 1e-5);
  net.to(DType::f64);
  twin.to(DType::f64);
  CHECK(off(x.to(DType::f64)) < 1e-12);
  net.to(DType::f32);
  twin.to(DType::f32);
  CHECK(off(x) < 1e-5);

  const Tensor at_x = net(x), at_large = net(large);
  std::atomic<int> others = 0;
  std::vector<std::thread> threads;  // which take each other's packed weights away
  for (const bool of_x : {true, false, true, false})
    threads.emplace_back([&, of_x] {
      for (int i = 0; i < 20; ++i)
        others += max_difference(net(of_x ? x : large), of_x ? at_x : at_large) != 0;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(others == 0);

  // As documented: a change that nobody counts is not noticed, where weights are packed.
  kernels::Conv2dParams p{
      .batch = 2, .in_h = 4, .in_w = 5, .in_c = 32, .out_c = 48, .kernel_h = 3, .kernel_w = 3};
  p.pad_h = p.pad_w = 1;
  const auto packed_size = kernels::cpu().conv2d_packed_size;
  const bool packs = packed_size && packed_size(p) > 0;
  CHECK((packs || kernels::cpu().name == std::string("reference")));
  const Tensor before = net(x);
  std::fill_n(weight.data<float>(), weight.numel(), 7.0f);
  CHECK((max_difference(net(x), before) == 0) == packs);

  net.eval();  // which it is
  CHECK(net.optimized_for_inference());
  net.train();
  CHECK(!net.optimized_for_inference());
  CHECK(!net[0].optimized_for_inference());
  CHECK(off(x) == 0);
}

TEST_CASE("optimize_for_inference notices changes through views, of frozen and of computed weights") {
  manual_seed(4);
  Sequential net, plain;
  for (Sequential* s : {&net, &plain}) {
    s->emplace<Linear>("a", 64, 64);
    s->emplace<SpectralNorm<Linear>>("b", 64, 64);
    s->emplace<Conv2d>("c", 64, 48, Conv2dLayerOptions{.padding = 1});
  }
  const Tensor x = Tensor::normal({1, 3, 3, 64}).set_requires_grad();
  plain.eval();
  net.optimize_for_inference();
  const auto off = [&](bool recorded) {
    std::optional<Tape> tape;
    if (recorded) tape.emplace();
    plain.load_state_dict(net.state_dict());
    const Tensor y = net(x), expected = plain(x);
    return max_difference(y, expected) / std::max(1.0, max_difference(expected, Tensor::zeros(y.shape())));
  };
  const auto other = [&] {
    Sequential fresh;
    fresh.emplace<Linear>("a", 64, 64);
    fresh.emplace<SpectralNorm<Linear>>("b", 64, 64);
    fresh.emplace<Conv2d>("c", 64, 48, Conv2dLayerOptions{.padding = 1});
    return fresh.state_dict();
  };
  for (int i = 0; i < 4; ++i) {  // memory comes back at the same addresses
    CHECK(off(true) < 1e-5);
    net.load_state_dict(other());
    CHECK(off(i % 2 == 0) < 1e-5);
  }
  const Tensor weight = net.parameters()[0].tensor;
  weight.detach().copy_from(Tensor::uniform(weight.shape(), -1, 1));
  CHECK(off(false) < 1e-5);
  for (int i = 0; i < 3; ++i) {
    for (const Parameter& p : net.parameters()) p.tensor.set_requires_grad(i == 1);
    net.load_state_dict(other());
    CHECK(off(false) < 1e-5);
  }
  // Frozen weights are packed, too.
  for (const Parameter& p : net.parameters()) p.tensor.set_requires_grad(false);
  off(false);
  const size_t before = memory_stats().in_use;
  net.train();
  off(false);
  CHECK((memory_stats().in_use < before || kernels::cpu().name == std::string("reference")));
}

TEST_CASE("optimize_for_inference: Linear") {
  for (const bool bias : {true, false}) {
    Module root;
    Linear layer{root, "layer", 37, 50, {.bias = bias}}, small{root, "small", 37, 3};
    for (const Shape& shape : {Shape{37}, Shape{1, 37}, Shape{2, 11, 37}, Shape{0, 37}}) {
      root.train();
      const Tensor x = Tensor::uniform(shape, -1, 1), y = layer(x), few = small(x);
      root.optimize_for_inference();
      CHECK(max_difference(layer(x), y) < 1e-5);
      CHECK(max_difference(layer(x), layer(x)) == 0);
      CHECK(max_difference(small(x), few) < 1e-5);
      const Tensor twice = layer.weight.detach() + layer.weight.detach();
      layer.weight.copy_from(twice);
      CHECK(max_difference(layer(x), linear(x, layer.weight, layer.bias)) < 1e-5);
    }
  }
}

TEST_CASE("default initialisation of Conv2d and Linear is PyTorch's: uniform in 1 / sqrt(fan_in)") {
  Module root;
  Generator generator(1);
  Conv2d conv{root, "conv", 32, 64, {.kernel = 3, .groups = 2}, generator};
  Linear fc{root, "fc", 400, 300, {}, generator};
  for (const auto& [weight, bias, bound] : {std::tuple{conv.weight, conv.bias, 1 / std::sqrt(9 * 16.0)},
                                            std::tuple{fc.weight, fc.bias, 1 / std::sqrt(400.0)}}) {
    for (const Tensor& t : {weight, bias}) {
      const Moments m = moments(t);
      CHECK(m.low >= -bound);
      CHECK(m.high <= bound);
      CHECK(m.high - m.low > 1.8 * bound);
    }
    const Moments m = moments(weight);
    CHECK(m.std == doctest::Approx(bound / std::sqrt(3)).epsilon(0.02));
    CHECK(std::abs(m.mean) < 0.02 * bound);
  }
}

TEST_CASE("BatchNorm2d: training normalises and follows, evaluation uses what was followed") {
  Module root;
  BatchNorm2d bn{root, "bn", 2, {.momentum = 0.5}};
  CHECK(names_of(bn) == std::vector<std::string>{"weight", "bias", "running_mean", "running_var"});
  CHECK(root.parameters().size() == 2);
  CHECK(root.buffers().size() == 2);
  // Channel 0: 0, 2, 4, 6 (mean 3, variance 5, unbiased 20/3); channel 1: constant 1.
  const Tensor x = Tensor::from<float>({0, 1, 2, 1, 4, 1, 6, 1}, {1, 2, 2, 2});
  const Tensor y = bn(x);
  CHECK(y.at(0) == doctest::Approx(-3 / std::sqrt(5 + 1e-5)));
  CHECK(y.at(6) == doctest::Approx(3 / std::sqrt(5 + 1e-5)));
  CHECK(y.at(1) == doctest::Approx(0));
  CHECK(bn.running_mean.at(0) == doctest::Approx(1.5));
  CHECK(bn.running_var.at(0) == doctest::Approx(0.5 + 0.5 * 20 / 3));
  CHECK(bn.running_mean.at(1) == doctest::Approx(0.5));
  CHECK(bn.running_var.at(1) == doctest::Approx(0.5));

  root.eval();
  const Tensor e = bn(x);
  CHECK(e.at(0) == doctest::Approx((0 - 1.5) / std::sqrt(0.5 + 10.0 / 3 + 1e-5)));
  CHECK(bn.running_mean.at(0) == doctest::Approx(1.5));
}

TEST_CASE("BatchNorm2d: activation and residual in one pass equal the steps") {
  Module root;
  Generator generator(2);
  BatchNorm2d plain{root, "plain", 5}, fused{root, "fused", 5, {.activation = Activation::mish}};
  for (BatchNorm2d* bn : {&plain, &fused}) {
    bn->weight.copy_from(Tensor::from<float>({1, -2, 0.5, 3, 0}, {5}));
    bn->bias.copy_from(Tensor::from<float>({0, 1, -1, 2, 0.5}, {5}));
  }
  const Tensor x = Tensor::normal({3, 4, 2, 5}, 1, 2, generator),
               r = Tensor::normal(x.shape(), 0, 1, generator);
  CHECK(max_difference(fused(x), mish(plain(x))) < 1e-5);
  CHECK(max_difference(fused(x, r), mish(plain(x) + r)) < 1e-5);
  CHECK(fused.description() == "BatchNorm2d(5, mish)");

  Tape tape;
  fused(x, r);
  REQUIRE_FALSE(tape.entries().empty());
  CHECK(tape.entries().back().scope == "fused");
}

TEST_CASE("pools, Flatten") {
  Module root;
  MaxPool2d max{root, "max", {.kernel = 3, .stride = 2, .padding = 1}};
  AvgPool2d avg{root, "avg", {.kernel = 2, .ceil_mode = true}};
  GlobalAvgPool global{root, "global"};
  Flatten flat{root, "flat"};
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 3, 3, 1});
  CHECK(max(x).to_vector<float>() == std::vector<float>{5, 6, 8, 9});
  CHECK(avg(x).to_vector<float>() ==
        std::vector<float>{3, 4.5, 7.5, 9});  // overhanging windows count what they hold
  CHECK(global(x).to_vector<float>() == std::vector<float>{5});
  CHECK(flat(x).shape() == Shape{1, 9});
  CHECK(max.description() == "MaxPool2d(kernel 3, stride 2, padding 1)");
  CHECK(avg.description() == "AvgPool2d(kernel 2, stride 2, ceil)");
}

TEST_CASE("Dropout: zeroes and scales in training, nothing in evaluation") {
  Module root;
  Generator generator(3);
  Dropout drop{root, "drop", 0.25, generator};
  const Tensor x = Tensor::ones({100, 100});
  const Tensor y = drop(x);
  int64_t zeros = 0;
  for (float v : y.to_vector<float>()) {
    zeros += v == 0;
    CHECK_MESSAGE((v == 0 || v == doctest::Approx(4.0 / 3)), "value ", v);
  }
  CHECK(std::abs(double(zeros) - 2500) < 250);
  CHECK(max_difference(y, drop(x)) > 1);  // another mask each time
  root.eval();
  CHECK(max_difference(x, drop(x)) == 0);
  Dropout all{root, "all", 1, generator};
  const Tensor leaf = Tensor::ones({3}).set_requires_grad();
  Tape tape;
  const Tensor nothing = all(leaf);
  CHECK(max_difference(nothing, Tensor::zeros({3})) == 0);
  tape.backward(sum(nothing));
  CHECK(max_difference(leaf.grad(), Tensor::zeros({3})) == 0);
  all.eval();
  CHECK(max_difference(all(leaf), leaf) == 0);
}

TEST_CASE("activation layers are the ops") {
  Module root;
  Generator generator(4);
  const Tensor x = Tensor::normal({50}, 0, 2, generator);
  for (int i = 0; i < kActivationCount; ++i) {
    const auto act = Activation(i);
    CAPTURE(activation_name(act));
    ActivationLayer layer{root, activation_name(act), act};
    CHECK(max_difference(layer(x), activation(x, act)) == 0);
    CHECK(layer.description() == activation_name(act));
  }
  Module named;
  CHECK(max_difference(Mish(named, "mish")(x), mish(x)) == 0);
  CHECK(max_difference(ReLU(named, "relu")(x), relu(x)) == 0);
  CHECK(max_difference(LeakyReLU(named, "leaky", 0.3)(x), leaky_relu(x, 0.3)) == 0);
}

TEST_CASE("Sequential: runs in order, names its layers, survives a layer that can't be made") {
  Sequential net;
  net.emplace<Linear>("hidden", 3, 4);
  net.emplace<ReLU>("act");
  auto& inner = net.emplace<Sequential>("inner");
  inner.emplace<Linear>("0", 4, 2, LinearOptions{.bias = false});
  CHECK(names_of(net) == std::vector<std::string>{"hidden.weight", "hidden.bias", "inner.0.weight"});
  CHECK(net.size() == 3);
  const Tensor x = Tensor::from<float>({1, -2, 3}, {1, 3});
  CHECK(max_difference(net(x), inner[0](relu(net[0](x)))) == 0);

  CHECK(mentions(error_of([&] { net[3]; }), "layer 3 asked for, but it has 3"));
  CHECK_THROWS_AS(net.emplace<Linear>("hidden", 2, 2), Error);  // the name is taken
  CHECK_THROWS_AS(net.emplace<Linear>("broken", 0, 2), Error);
  CHECK(net.children().size() == 3);
  CHECK(net.num_parameters() == 3 * 4 + 4 + 4 * 2);
  net.emplace<Linear>("broken", 2, 2);
  CHECK(net(x).shape() == Shape{1, 2});
}

TEST_CASE("init: fans of OHWI weights") {
  const init::Fans conv = init::fans(Tensor::empty({8, 3, 5, 2}));
  CHECK(conv.in == 30);
  CHECK(conv.out == 120);
  const init::Fans matrix = init::fans(Tensor::empty({8, 2}));
  CHECK(matrix.in == 2);
  CHECK(matrix.out == 8);
  CHECK(mentions(error_of([] { init::fans(Tensor::empty({8})); }), "[8]"));
}

TEST_CASE("init: standard deviations, bounds, same seed same bits") {
  const Shape shape{40, 3, 3, 60};
  const double in = 9 * 60, out = 9 * 40;
  using Init = std::function<Tensor(Tensor, Generator&)>;
  struct Row {
    const char* name;
    Init init;
    double std;
    bool uniform;
  };
  const init::KaimingOptions leaky{.a = std::sqrt(5.0), .mode = init::FanMode::fan_out}, gain{.gain = 3};
  const Row rows[] = {
      {"kaiming_normal_", [](Tensor t, Generator& g) { return init::kaiming_normal_(t, {}, g); },
       std::sqrt(2 / in), false},
      {"kaiming_normal_ gain", [&](Tensor t, Generator& g) { return init::kaiming_normal_(t, gain, g); },
       3 / std::sqrt(in), false},
      {"kaiming_uniform_", [&](Tensor t, Generator& g) { return init::kaiming_uniform_(t, leaky, g); },
       std::sqrt(2 / (6 * out)), true},
      {"xavier_normal_", [](Tensor t, Generator& g) { return init::xavier_normal_(t, 2, g); },
       2 * std::sqrt(2 / (in + out)), false},
      {"xavier_uniform_", [](Tensor t, Generator& g) { return init::xavier_uniform_(t, 1, g); },
       std::sqrt(2 / (in + out)), true},
      {"normal_", [](Tensor t, Generator& g) { return init::normal_(t, 0, 0.7, g); }, 0.7, false},
      {"uniform_", [](Tensor t, Generator& g) { return init::uniform_(t, -1, 1, g); }, 1 / std::sqrt(3),
       true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    for (DType dtype : {DType::f32, DType::f64}) {
      Generator a(7), b(7), c(8);
      const Tensor t = row.init(Tensor::empty(shape, dtype), a);
      const Moments m = moments(t);
      CHECK(m.std == doctest::Approx(row.std).epsilon(0.03));
      CHECK(std::abs(m.mean) < 0.03 * row.std);
      const double bound = std::sqrt(3) * row.std;
      if (row.uniform)
        CHECK(m.high <= bound * 1.000001);
      else
        CHECK(m.high > 3 * row.std);  // a normal distribution has tails
      CHECK(max_difference(t, row.init(Tensor::empty(shape, dtype), b)) == 0);
      CHECK(max_difference(t, row.init(Tensor::empty(shape, dtype), c)) > 0);
    }
  }
  CHECK(moments(init::ones_(Tensor::empty({5}))).mean == 1);
  CHECK(moments(init::zeros_(Tensor::empty({5}))).high == 0);
  CHECK(moments(init::constant_(Tensor::empty({5}), -2.5)).low == -2.5);
  CHECK_THROWS_AS(init::normal_(Tensor::empty({5}), 0, -1), Error);
  CHECK_THROWS_AS(init::uniform_(Tensor::empty({5}), 1, 0), Error);
  CHECK_THROWS_AS(init::kaiming_normal_(Tensor::empty({5})), Error);
}

TEST_CASE("init: kaiming_normal_all_ starts every kind of convolution") {
  Sequential net;
  Generator g(5);
  net.emplace<Conv2d>("conv2d", 16, 20, Conv2dLayerOptions{}, g);
  net.emplace<Conv1d>("conv1d", 48, 30, Conv2dLayerOptions{}, g);
  net.emplace<ConvTranspose2d>("transposed2d", 20, 16, ConvTransposeLayerOptions{}, g);
  net.emplace<ConvTranspose1d>("transposed1d", 30, 48, ConvTransposeLayerOptions{}, g);
  net.emplace<Linear>("linear", 144, 40, LinearOptions{}, g);
  init::kaiming_normal_all_(net, g);
  for (const auto& named : net.state_dict()) {
    CAPTURE(named.first);
    const Tensor& t = named.second;
    const Moments m = moments(t);
    CHECK(m.std == doctest::Approx(t.ndim() > 1 ? std::sqrt(2.0 / 144) : 0).epsilon(0.05));
    if (t.ndim() == 1) CHECK(m.high == 0);
  }
}

TEST_CASE("init: orthogonal_ gives orthonormal rows or columns") {
  Generator generator(5);
  for (const Shape& shape : {Shape{6, 6}, Shape{4, 9}, Shape{9, 4}, Shape{5, 3, 3, 2}}) {
    CAPTURE(shape.to_string());
    const Tensor w = init::orthogonal_(Tensor::empty(shape, DType::f64), 1.5, generator);
    const int64_t rows = shape[0], cols = shape.numel() / rows;
    const Tensor m = w.view({rows, cols});
    const bool wide = rows <= cols;
    const Tensor gram = matmul(m, m, {.transpose_a = !wide, .transpose_b = wide});
    for (int64_t i = 0; i < gram.size(0); ++i)
      for (int64_t j = 0; j < gram.size(1); ++j)
        CHECK(gram.at(i * gram.size(1) + j) == doctest::Approx(i == j ? 2.25 : 0).epsilon(1e-12));
  }
  // Uniformly distributed: the first element of a random rotation in three dimensions is uniform in [-1, 1].
  Moments corner;
  double square = 0;
  for (int i = 0; i < 2000; ++i) {
    const double x = init::orthogonal_(Tensor::empty({3, 3}, DType::f64), 1, generator).at(0);
    corner.mean += x / 2000, square += x * x / 2000;
  }
  CHECK(std::abs(corner.mean) < 0.05);
  CHECK(square == doctest::Approx(1.0 / 3).epsilon(0.06));
}

TEST_CASE("init: calculate_gain") {
  CHECK(init::calculate_gain(Activation::relu) == doctest::Approx(std::sqrt(2)));
  CHECK(init::calculate_gain(Activation::leaky_relu, 2) == doctest::Approx(std::sqrt(0.4)));
  CHECK(init::calculate_gain(Activation::tanh) == doctest::Approx(5.0 / 3));
  CHECK(init::calculate_gain(Activation::sigmoid) == 1);
  CHECK(mentions(error_of([] { init::calculate_gain(Activation::mish); }), "mish"));
}

TEST_CASE("SpectralLinear: converges on the largest singular value, only in training") {
  // W = A diag(4, 2, 1, .5) B with orthonormal A and B has these singular values.
  Generator generator(6);
  const Tensor a = init::orthogonal_(Tensor::empty({6, 4}, DType::f64), 1, generator);
  const Tensor b = init::orthogonal_(Tensor::empty({4, 5}, DType::f64), 1, generator);
  const Tensor w = matmul(a * Tensor::from<double>({4, 2, 1, 0.5}, {4}), b);
  Module root;
  SpectralLinear layer{root, "layer", 5, 6, generator};
  layer.to(DType::f64);
  layer.weight.copy_from(w);
  CHECK(names_of(root) == std::vector<std::string>{"layer.weight", "layer.u", "layer.v"});
  CHECK(root.parameters().size() == 1);

  const auto sigma = [&] { return w.at(0) / layer.normalized_weight().at(0); };
  layer.eval();
  const double before = sigma();
  CHECK(std::abs(before) < 3.99);  // u and v are random
  CHECK(sigma() == before);
  layer.train();
  double error = 4;
  for (int step = 1; step <= 30; ++step) {
    const double now = std::abs(sigma() - 4);
    if (step > 1) CHECK(now <= error + 1e-12);
    error = now;
  }
  CHECK(error < 1e-9);
  layer.eval();
  const Tensor u = layer.u.clone(), v = layer.v.clone();
  CHECK(sigma() == doctest::Approx(4).epsilon(1e-9));
  CHECK(max_difference(u, layer.u) == 0);
  CHECK(max_difference(v, layer.v) == 0);
  const Tensor x = Tensor::normal({3, 5}, 0, 1, generator, DType::f64);
  CHECK(max_difference(layer(x), linear(x, w * 0.25)) < 1e-8);
}

TEST_CASE("SpectralLinear: u and v of an earlier forward stay for its backward") {
  Generator generator(7);
  Module root;
  SpectralLinear layer{root, "layer", 4, 4, generator};
  layer.to(DType::f64);
  const Tensor x = Tensor::normal({2, 4}, 0, 1, generator, DType::f64),
               grad = Tensor::ones({2, 4}, DType::f64);
  const Tensor u = layer.u.clone(), v = layer.v.clone();
  const auto gradient = [&](bool again) {
    layer.u.copy_from(u), layer.v.copy_from(v);
    layer.zero_grad();
    Tape tape;
    const Tensor y = layer(x);
    if (again) layer(x);
    tape.backward(y, grad);
    return layer.weight.grad().clone();
  };
  CHECK(max_difference(gradient(false), gradient(true)) == 0);
}

TEST_CASE("SpectralLinear: the power iteration is not on the tape") {
  Module root;
  SpectralLinear layer{root, "layer", 4, 4};
  const auto entries = [&] {
    Tape tape;
    layer(Tensor::ones({2, 4}));
    return tape.entries().size();
  };
  const size_t in_training = entries();
  layer.eval();
  CHECK(in_training == entries());
}

TEST_CASE("SimpleSelfAttention: nothing at the start, then gamma (x x^T)(W x) + x") {
  Generator generator(8);
  for (bool symmetric : {false, true}) {
    CAPTURE(symmetric);
    Module root;
    SimpleSelfAttention sa{root, "sa", 3, {.symmetric = symmetric}, generator};
    CHECK(names_of(sa) == std::vector<std::string>{"gamma", "conv.weight", "conv.u", "conv.v"});
    const Tensor x = Tensor::normal({2, 2, 4, 3}, 0, 1, generator);
    CHECK(max_difference(sa(x), x) == 0);

    sa.to(DType::f64);
    sa.eval();
    sa.gamma.fill(0.7);
    const Tensor xd = x.to(DType::f64), y = sa(xd), w = sa.conv.normalized_weight();
    REQUIRE(y.shape() == x.shape());
    // As published, [C, pixels] loops: row c of x is channel c.
    const int channels = 3, pixels = 8;
    for (int n = 0; n < 2; ++n) {
      const auto at = [&](int c, int p) { return xd.at((n * pixels + p) * channels + c); };
      for (int c = 0; c < channels; ++c)
        for (int p = 0; p < pixels; ++p) {
          double o = 0;
          for (int d = 0; d < channels; ++d) {
            double xxt = 0, wx = 0;
            for (int q = 0; q < pixels; ++q) xxt += at(c, q) * at(d, q);
            for (int e = 0; e < channels; ++e) {
              const double plain = w.at(d * channels + e), mirrored = w.at(e * channels + d);
              wx += (symmetric ? (plain + mirrored) / 2 : plain) * at(e, p);
            }
            o += xxt * wx;
          }
          CHECK(y.at((n * pixels + p) * channels + c) == doctest::Approx(0.7 * o + at(c, p)).epsilon(1e-10));
        }
    }
  }
}

TEST_CASE("SimpleSelfAttention: gradients, with u and v constant") {
  for (bool symmetric : {false, true}) {
    CAPTURE(symmetric);
    Generator generator(9);
    Module root;
    SimpleSelfAttention sa{root, "sa", 4, {.symmetric = symmetric}, generator};
    sa.to(DType::f64);
    sa.gamma.fill(0.3);
    sa(Tensor::normal({1, 3, 3, 4}, 0, 1, generator, DType::f64));  // one step of the power iteration
    sa.eval();  // holds u and v; else finite differences would see them move
    const Tensor x = Tensor::normal({2, 3, 2, 4}, 0, 1, generator, DType::f64).set_requires_grad();
    const auto f = [&](const std::vector<Tensor>& in) { return sa(in[0]); };
    const GradcheckResult result = gradcheck(f, {x, sa.gamma, sa.conv.weight});
    CHECK_MESSAGE(result.ok, result.message);
  }
}

TEST_CASE("ResBlock: shapes and names") {
  Module root;
  ResBlock same{root, "same", 8, 8};
  CHECK(same(Tensor::ones({2, 5, 7, 8})).shape() == Shape{2, 5, 7, 8});
  CHECK_FALSE(same.shortcut.has_value());
  CHECK_FALSE(same.conv3.has_value());

  ResBlock down{root, "down", 8, 4, {.expansion = 4, .stride = 2, .self_attention = true}};
  CHECK(down(Tensor::ones({2, 5, 7, 8})).shape() == Shape{2, 3, 4, 16});
  std::vector<std::string> names;
  for (const Parameter& p : down.parameters()) names.push_back(p.name);
  CHECK(names == std::vector<std::string>{"conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight",
                                          "bn2.weight", "bn2.bias", "conv3.weight", "bn3.weight", "bn3.bias",
                                          "attention.gamma", "attention.conv.weight", "shortcut.conv.weight",
                                          "shortcut.bn.weight", "shortcut.bn.bias"});
  CHECK(down.conv1.weight.shape() == Shape{4, 1, 1, 8});
  CHECK(down.conv2.options().stride == 2);
  CHECK(down.conv3->weight.shape() == Shape{16, 1, 1, 4});
  CHECK(moments(down.bn3->weight).high == 0);
  CHECK(moments(down.bn2->weight).low == 1);
}

TEST_CASE("ResBlock: starts as its shortcut") {
  Generator generator(10);
  Module root;
  const Tensor x = Tensor::normal({2, 4, 4, 6}, 0, 1, generator);
  for (bool attention : {false, true}) {
    ResBlock block{root, attention ? "a" : "b", 6, 6, {.self_attention = attention}, generator};
    CHECK(max_difference(block(x), mish(x)) < 1e-6);
  }
}

TEST_CASE("ResBlock: attention with gamma 0 changes nothing") {
  for (int64_t expansion : {1, 2}) {
    Generator generator(12);
    Module root;
    ResBlock plain{root, "plain", 6, 6, {.expansion = expansion, .stride = 2}, generator};
    ResBlock with{root,     "with", 6, 6, {.expansion = expansion, .stride = 2, .self_attention = true},
                  generator};
    for (const Parameter& p : plain.parameters())
      if (p.name.find("bn") != std::string::npos)
        p.tensor.copy_from(Tensor::normal(p.tensor.shape(), 0, 1, generator));
    with.load_state_dict(plain.state_dict(), false);
    const Tensor x = Tensor::normal({2, 5, 4, 6}, 0, 1, generator);
    CHECK(max_difference(plain(x), with(x)) < 1e-5);
  }
}

TEST_CASE("ResBlock: gradients of basic and bottleneck blocks") {
  struct Row {
    const char* name;
    ResBlockOptions options;
  };
  const Row rows[] = {
      {"basic", {}},
      {"basic, stride, attention", {.stride = 2, .self_attention = true}},
      {"bottleneck, stride", {.expansion = 2, .stride = 2}},
      {"bottleneck, attention", {.expansion = 2, .self_attention = true}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    Generator generator(11);
    Module root;
    ResBlock block{root, "block", 2, 2, row.options, generator};
    block.to(DType::f64);
    if (block.attention) {
      block.attention->eval();
      block.attention->gamma.fill(0.2);
    }
    std::vector<Tensor> inputs{Tensor::normal({2, 3, 3, 2}, 0, 1, generator, DType::f64).set_requires_grad()};
    for (const Parameter& p : block.parameters()) {
      if (p.name.find("bn") != std::string::npos)  // away from 0 and 1
        p.tensor.copy_from(Tensor::uniform(p.tensor.shape(), 0.5, 1.5, generator, DType::f64));
      inputs.push_back(p.tensor);
    }
    const auto f = [&](const std::vector<Tensor>& in) { return block(in[0]); };
    const GradcheckResult result = gradcheck(f, inputs, {.rtol = 1e-5});
    CHECK_MESSAGE(result.ok, result.message);
  }
}

TEST_CASE("layers: errors name the layer and the numbers") {
  Module root;
  CHECK(mentions(error_of([&] { Conv2d(root, "c", 0, 4); }), "Conv2d c: 0 input and 4 output channels"));
  CHECK(mentions(error_of([&] { Conv2d(root, "c", 6, 4, {.groups = 4}); }), "can't be split into 4 groups"));
  CHECK(mentions(error_of([&] { Conv2d(root, "c", 6, 4, {.kernel = 0}); }), "kernel 0"));
  CHECK(mentions(error_of([&] { Linear(root, "l", 3, -1); }), "-1"));
  CHECK(mentions(error_of([&] { BatchNorm2d(root, "b", 0); }), "0 channels"));
  CHECK(mentions(error_of([&] { Dropout(root, "d", 1.5); }), "1.5"));
  CHECK(mentions(error_of([&] { ResBlock(root, "r", 4, 4, {.stride = 3}); }), "stride 3"));
  CHECK(root.children().empty());

  Conv2d conv{root, "conv", 3, 4};
  CHECK(mentions(error_of([&] { conv(Tensor::ones({1, 5, 5, 4})); }), "conv2d"));
  Linear fc{root, "fc", 3, 4};
  CHECK(mentions(error_of([&] { fc(Tensor::ones({2, 5})); }), "linear"));
  BatchNorm2d bn{root, "bn", 3};
  CHECK(mentions(error_of([&] { bn(Tensor::ones({2, 2, 2, 4})); }), "batch_norm"));
  SimpleSelfAttention sa{root, "sa", 4};
  CHECK(mentions(error_of([&] { sa(Tensor::ones({1, 2, 2, 3})); }), "C = 4"));
  CHECK(mentions(error_of([&] { sa(Tensor::ones({2, 4})); }), "[2, 4]"));
}

TEST_CASE("conv_bn: as convolution and batch norm one after the other") {
  constexpr DType kTypes[] = {DType::f32, DType::f64};
  for (DType dtype : kTypes) {
    manual_seed(3);
    Sequential root;
    auto& fused = root.emplace<ConvBn>("fused", 20, 37, ConvBnOptions{.activation = Activation::mish});
    auto& plain = root.emplace<ConvBn>("plain", 20, 37, ConvBnOptions{.activation = Activation::mish});
    plain.load_state_dict(fused.state_dict());
    fused.to(dtype), plain.to(dtype);
    const Tensor x = Tensor::normal({3, 9, 11, 20}, 0.5, 1, default_generator(), dtype);
    const Tensor side = Tensor::normal({3, 9, 11, 37}, 0, 1, default_generator(), dtype);
    const double bound = dtype == DType::f32 ? 1e-5 : 1e-14;
    const auto close = [&](const Tensor& a, const Tensor& b) {
      double off = 0;
      for (int64_t i = 0; i < a.numel(); ++i)
        off = std::max(off, std::abs(a.at(i) - b.at(i)) / (1 + std::abs(b.at(i))));
      CHECK(off < bound);
    };
    for (bool training : {true, false}) {
      fused.train(training), plain.train(training);
      close(conv_bn(fused.conv, fused.bn, x, side), plain.bn(plain.conv(x), side));
      close(fused.bn.running_mean, plain.bn.running_mean);
      close(fused.bn.running_var, plain.bn.running_var);
    }
    Tape tape;
    fused.train();
    tape.backward(sum(conv_bn(fused.conv, fused.bn, x)));
    Tape other;
    plain.train();
    other.backward(sum(plain.bn(plain.conv(x))));
    close(fused.conv.weight.grad(), plain.conv.weight.grad());
    close(fused.bn.weight.grad(), plain.bn.weight.grad());
  }
}

TEST_CASE(
    "conv_bn in evaluation is one op without a tape, to the bits of two with one; hooks keep them apart") {
  for (const Activation act : {Activation::identity, Activation::mish, Activation::prelu, Activation::rrelu})
    for (const bool packed : {false, true}) {
      manual_seed(5);
      Sequential root;
      auto& m = root.emplace<ConvBn>("m", 20, 37, ConvBnOptions{.activation = act});
      const Tensor x = Tensor::normal({3, 9, 11, 20}, 0.5, 1), side = Tensor::normal({3, 9, 11, 37}, 0, 1);
      for (const Tensor& t : {m.bn.weight, m.bn.bias, m.bn.running_mean, m.bn.running_var})
        t.copy_from(Tensor::uniform({37}, 0.5, 1.5));
      CHECK(!m.bn.running(side));
      root.eval();
      if (packed) root.optimize_for_inference();
      CHECK(can_conv2d_batch_norm(x) == (kernels::cpu().name != std::string("reference")));
      CHECK(!can_conv2d_batch_norm(x.to(DType::f64)));
      const auto run = [&] { return conv_bn(m.conv, m.bn, x, side).to_vector<float>(); };
      const std::vector<float> together = run();
      int seen = 0;
      const auto count = [&](Module&, const Tensor&, const Tensor&) {
        ++seen;
        return Tensor();
      };
      {
        Tape tape;
        CHECK(!can_conv2d_batch_norm(x));
        CHECK(run() == together);
        CHECK(mentions(error_of([&] { m.conv.forward(x, *m.bn.running(side)); }), "can_conv2d_batch_norm"));
      }
      std::vector<Module*> hooked{&m.conv, &m.bn};
      if (m.bn.act) hooked.push_back(&*m.bn.act);
      for (Module* module : hooked) {
        RemovableHandle handle = module->register_forward_hook(count);
        CHECK(run() == together);
        handle.remove();
      }
      CHECK(seen == int(hooked.size()));
      CHECK(mentions(error_of([&] { conv_bn(m.conv, m.bn, x, x); }), "residual"));
      CHECK(mentions(error_of([&] { conv_bn(m.conv, m.bn, side, side); }), "conv2d"));
    }
}
