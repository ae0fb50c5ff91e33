// Hessian-vector products and the other derivatives of functions.
#include <doctest/doctest.h>

#include <cmath>

#include "support/errors.h"
#include "weft/weft.h"

using namespace weft;

namespace {

Generator generator(11);

Tensor normal(const Shape& shape) { return Tensor::normal(shape, 0, 1, generator, DType::f64); }

struct Net : Module {
  Conv2d conv{*this, "conv", 2, 4, {.kernel = 3, .stride = 2, .padding = 1, .bias = false}};
  BatchNorm2d bn{*this, "bn", 4, {.activation = Activation::mish}};
  ResBlock block{*this, "block", 4, 4, {.self_attention = true}};
  Linear head{*this, "head", 4, 3};
  Net() { to(DType::f64); }
  Tensor forward(const Tensor& x) override { return head(global_avg_pool(block(conv_bn(conv, bn, x)))); }
};

std::vector<Tensor> tensors(const Module& m) {
  std::vector<Tensor> list;
  for (const Parameter& p : m.parameters()) list.push_back(p.tensor);
  return list;
}

}  // namespace

TEST_CASE("hvp of a network with batch norm and attention against finite differences of its gradient") {
  manual_seed(4);
  Net net;
  static_cast<Tensor&>(net.block.attention->gamma).fill(0.3);
  for (const Parameter& p : net.parameters())  // the last batch norm of a block starts at 0
    if (p.name == "block.bn2.weight") p.tensor.fill(0.7);
  net.eval();                                                     // the power iteration rests ...
  net.bn.train(), net.block.bn1.train(), net.block.bn2->train();  // ... and batch norm does not
  const Tensor x = normal({3, 7, 6, 2}), labels = Tensor::from<int64_t>({0, 2, 1}, {3});
  const auto loss = [&] { return cross_entropy(net(x), labels); };
  const std::vector<Tensor> parameters = tensors(net);
  std::vector<Tensor> v;
  for (const Tensor& p : parameters) v.push_back(normal(p.shape()));
  const HvpResult r = hvp(loss, parameters, v);
  for (const Tensor& p : parameters) CHECK(!p.grad().defined());

  const auto gradient_at = [&](double h) {
    std::vector<Tensor> saved;
    for (size_t i = 0; i < parameters.size(); ++i) {
      saved.push_back(parameters[i].clone());
      for (int64_t k = 0; k < v[i].numel(); ++k) parameters[i].data<double>()[k] += h * v[i].at(k);
    }
    Tape tape;
    const auto g = tape.grad(loss(), parameters, {.materialize_grads = true});
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].copy_from(saved[i]);
    return g;
  };
  const double h = 1e-6;
  const auto here = gradient_at(0), above = gradient_at(h), below = gradient_at(-h);
  double largest = 0;
  for (size_t i = 0; i < parameters.size(); ++i)
    for (int64_t k = 0; k < v[i].numel(); ++k) {
      CHECK(r.gradient[i].at(k) == doctest::Approx(here[i].at(k)).epsilon(1e-10));
      const double numeric = (above[i].at(k) - below[i].at(k)) / (2 * h);
      largest = std::max(largest, std::abs(numeric));
      CHECK(std::abs(r.product[i].at(k) - numeric) <= 1e-5 * (1 + std::abs(numeric)));
    }
  CHECK(largest > 0.1);
}

TEST_CASE("a whole MXResNet18 can be differentiated twice, recomputed too") {
  for (const bool recompute : {false, true}) {
    manual_seed(4);
    const auto net = make_model("mxresnet18", {.self_attention = true, .recompute = recompute});
    const Tensor x = Tensor::normal({2, 32, 32, 3}, 0, 1).set_requires_grad();
    Tape tape;
    const Tensor y = cross_entropy((*net)(x), Tensor::from<int64_t>({0, 2}, {2}));
    tape.backward(mean(square(tape.grad(y, {x}, {.create_graph = true})[0])));
    int with = 0;
    for (const Parameter& p : net->parameters()) with += p.tensor.grad().defined();
    CHECK(with > 60);
  }
}

TEST_CASE("hvp: parameters that the loss depends on linearly or not at all, and errors") {
  const Tensor a = normal({3}).set_requires_grad(), b = normal({2}).set_requires_grad(), one = normal({3});
  const HvpResult linear = hvp([&] { return sum(a * 2.0); }, {a, b}, {one, normal({2})});
  CHECK(linear.gradient[0].to_vector<double>() == std::vector<double>{2, 2, 2});
  for (int i = 0; i < 2; ++i)
    for (const double h : linear.product[size_t(i)].to_vector<double>()) CHECK(h == 0);
  const HvpResult half = hvp([&] { return sum(square(a)) + sum(b); }, {a, b}, {one, normal({2})});
  for (int64_t i = 0; i < 3; ++i) CHECK(half.product[0].at(i) == 2 * one.at(i));
  CHECK(half.product[1].at(0) == 0);
  const HvpResult neither = hvp([] { return Tensor::ones({}, DType::f64); }, {a}, {one});
  CHECK(neither.value.item() == 1);
  CHECK(neither.gradient[0].at(2) == 0);
  CHECK(neither.product[0].at(2) == 0);
  CHECK_ERROR(hvp([&] { return sum(a); }, {a, b}, {one}), "1 vectors for 2 parameters");
  CHECK_ERROR(hvp([&] { return sum(a); }, {a}, {normal({2})}), "vector 0 is f64 [2]");
  CHECK_ERROR(hvp([&] { return a; }, {a}, {one}), "one element");
}

TEST_CASE("jacobian, hessian, jvp and vjp of a function with known ones") {
  const Tensor x = Tensor::from<double>({0.5, -1, 2}, {3});
  // y = (x0 x1, e^x2 x0)
  const auto f = [](const Tensor& t) {
    const Tensor x0 = narrow(t, 0, 0, 1), x1 = narrow(t, 0, 1, 1), x2 = narrow(t, 0, 2, 1);
    return concat({x0 * x1, exp(x2) * x0});
  };
  const double e = std::exp(2.0);
  const std::vector<double> expected = {-1, 0.5, 0, e, 0, 0.5 * e};
  const Tensor j = jacobian(f, x);
  CHECK(j.shape() == Shape{2, 3});
  for (int64_t i = 0; i < 6; ++i) CHECK(j.at(i) == doctest::Approx(expected[size_t(i)]));
  const Tensor v = Tensor::from<double>({1, 2, -1}, {3}), w = Tensor::from<double>({3, -2}, {2});
  const Tensor jv = jvp(f, x, v), vj = vjp(f, x, w);
  for (int64_t i = 0; i < 2; ++i)
    CHECK(jv.at(i) == doctest::Approx(j.at(3 * i) + 2 * j.at(3 * i + 1) - j.at(3 * i + 2)));
  for (int64_t i = 0; i < 3; ++i) CHECK(vj.at(i) == doctest::Approx(3 * j.at(i) - 2 * j.at(3 + i)));

  // Where an op hands its gradient on as it is, to a tensor that others use too.
  const auto reused = [](const Tensor& t) {
    const Tensor h = exp(t);
    return h + h * h;
  };
  const Tensor through = jvp(reused, x, v);
  for (int64_t i = 0; i < 3; ++i) {
    const double h = std::exp(x.at(i));
    CHECK(through.at(i) == doctest::Approx((1 + 2 * h) * h * v.at(i)));
  }

  // Rosenbrock's function at (a, b).
  const auto rosenbrock = [](const Tensor& t) {
    const Tensor a = narrow(t, 0, 0, 1), b = narrow(t, 0, 1, 1);
    return sum(square(1.0 - a) + 100.0 * square(b - square(a)));
  };
  const Tensor h = hessian(rosenbrock, Tensor::from<double>({-1.2, 1}, {2}));
  const std::vector<double> known = {2 + 1200 * 1.44 - 400, 480, 480, 200};
  CHECK(h.shape() == Shape{2, 2});
  for (int64_t i = 0; i < 4; ++i) CHECK(h.at(i) == doctest::Approx(known[size_t(i)]));
  // Straight functions and constants.
  for (const double c : hessian([](const Tensor& t) { return sum(t * 3.0); }, x).to_vector<double>())
    CHECK(c == 0);
  const auto constant = [](const Tensor&) { return Tensor::ones({2}, DType::f64); };
  CHECK(jacobian(constant, x).to_vector<double>() == std::vector<double>(6, 0.0));
  CHECK(jvp(constant, x, v).to_vector<double>() == std::vector<double>(2, 0.0));
  CHECK(vjp(constant, x, w).to_vector<double>() == std::vector<double>(3, 0.0));
  CHECK_ERROR(hessian(f, x), "not one element");
}
