// Every differentiable op against finite differences, in f64 on the reference kernels, on odd shapes. And the
// checker itself: it must catch a gradient that is wrong.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "support/gradients.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::test;

namespace {

/// Checks f with the inputs from `constants` on held fixed.
void check_gradients_of_first(size_t count, const Function& f, const Inputs& inputs) {
  const Inputs checked(inputs.begin(), inputs.begin() + std::ptrdiff_t(count));
  check_gradients(
      [&](const Inputs& in) {
        Inputs all = in;
        all.insert(all.end(), inputs.begin() + std::ptrdiff_t(count), inputs.end());
        return f(all);
      },
      checked);
}

template <class F>
struct Named {
  const char* name;
  F f;
};

Activation activation_at(int i) { return static_cast<Activation>(i); }

}  // namespace

TEST_CASE("binary ops, broadcast both ways") {
  const std::pair<Shape, Shape> shapes[] = {{{3, 5}, {3, 5}},
                                            {{2, 3, 5}, {5}},
                                            {{5}, {2, 3, 5}},
                                            {{3, 5}, {2, 1, 1}},
                                            {{2, 1, 5}, {3, 1}},
                                            {{2, 3, 5}, {3, 1}},
                                            {{}, {3, 5}},
                                            {{3, 5}, {}},
                                            {{}, {}},
                                            {{2, 1, 3, 1}, {2, 5, 1, 3}},
                                            {{1, 1}, {3, 5}}};
  const Named<Tensor (*)(const Tensor&, const Tensor&)> ops[] = {
      {"add", add}, {"sub", sub}, {"mul", mul}, {"div", div}, {"maximum", maximum}, {"minimum", minimum}};
  for (const auto& op : ops)
    for (const std::pair<Shape, Shape>& pair : shapes) {
      const Shape &a = pair.first, &b = pair.second;
      CAPTURE(op.name);
      CAPTURE(a.to_string());
      CAPTURE(b.to_string());
      check_gradients([&](const Inputs& in) { return op.f(in[0], in[1]); }, {normal(a), nonzero(b)});
    }
  // The same tensor on both sides: two contributions to one gradient.
  check_gradients([](const Inputs& in) { return in[0] * in[0] - in[0] / square(in[0]); }, {nonzero({3, 5})});
}

TEST_CASE("unary ops") {
  const Named<Tensor (*)(const Tensor&)> ops[] = {{"neg", neg},
                                                  {"exp", exp},
                                                  {"log", log},
                                                  {"sqrt", sqrt},
                                                  {"square", square},
                                                  {"abs", abs},
                                                  {"reciprocal", reciprocal}};
  for (const auto& op : ops) {
    CAPTURE(op.name);
    const bool sign = std::string_view(op.name) != "log" && std::string_view(op.name) != "sqrt";
    check_gradients([&](const Inputs& in) { return op.f(in[0]); },
                    {sign ? nonzero({3, 5, 7}) : positive({3, 5, 7})});
  }
  check_gradients([](const Inputs& in) { return affine(in[0], -2.5, 0.75); }, {normal({5, 3})});
  check_gradients([](const Inputs& in) { return (1.5 - in[0]) / 3.0 + 2.0 / in[0]; }, {nonzero({5, 3})});
}

TEST_CASE("activations, on both sides of 0 and in the tails") {
  for (int i = 0; i < kActivationCount; ++i) {
    const Activation act = activation_at(i);
    CAPTURE(activation_name(act));
    const Function f = [act](const Inputs& in) { return activation(in[0], act); };
    check_gradients(f, {nonzero({3, 5, 7}, 0.01)});
    check_gradients(f, {positive({7}, 0.01)});
    check_gradients(f, {neg(positive({7}, 0.01))});
    // Off every kink.
    const Tensor far = Tensor::from(
        {-40.0, -25.0, -20.5, -12.0, -5.5, -3.25, 3.25, 5.5, 12.0, 19.5, 20.5, 25.0, 40.0}, {13});
    check_gradients(f, {far});
    for (const double param : {0.2, 1.3}) {
      CAPTURE(param);
      check_gradients([act, param](const Inputs& in) { return activation(in[0], act, param); },
                      {nonzero({5, 3}, 0.01)});
    }
  }
  check_gradients([](const Inputs& in) { return relu(in[0]); }, {nonzero({5, 3})});
  check_gradients([](const Inputs& in) { return add_activation(in[0], in[1], Activation::mish); },
                  {normal({5, 3}), normal({5, 3})});
  check_gradients([](const Inputs& in) { return add_activation(in[0], in[1], Activation::elu, 0.7); },
                  {normal({5, 3}), normal({3})});
  check_gradients([](const Inputs& in) { return mish(in[0]); }, {normal({5, 3})});
  check_gradients([](const Inputs& in) { return silu(in[0]); }, {normal({5, 3})});
  check_gradients([](const Inputs& in) { return sigmoid(in[0]); }, {normal({5, 3})});
  check_gradients([](const Inputs& in) { return tanh(in[0]); }, {normal({5, 3})});
  check_gradients([](const Inputs& in) { return softplus(in[0]); }, {normal({5, 3})});
  check_gradients([](const Inputs& in) { return leaky_relu(in[0], 0.2); }, {nonzero({5, 3})});
  check_gradients([](const Inputs& in) { return elu(in[0], 0.7); }, {nonzero({5, 3})});
  check_gradients([](const Inputs& in) { return gelu(in[0]); }, {normal({5, 3})});
}

TEST_CASE("reductions") {
  const Named<Tensor (*)(const Tensor&, const std::vector<int>&, bool)> ops[] = {
      {"sum", sum}, {"mean", mean}, {"amax", amax}, {"amin", amin}};
  const std::vector<int> dims[] = {{}, {0}, {-1}, {1}, {1, 2}, {0, 2}, {0, -1}, {0, 1, 2, 3}};
  for (const auto& op : ops)
    for (const std::vector<int>& d : dims)
      for (const bool keepdim : {false, true}) {
        CAPTURE(op.name);
        CAPTURE(d.size());
        CAPTURE(keepdim);
        check_gradients([&](const Inputs& in) { return op.f(in[0], d, keepdim); }, {normal({2, 3, 5, 3})});
      }
}

TEST_CASE("matrix products") {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      CAPTURE(ta);
      CAPTURE(tb);
      const MatmulOptions options{.transpose_a = ta, .transpose_b = tb};
      const Shape a = ta ? Shape{3, 5} : Shape{5, 3}, b = tb ? Shape{7, 3} : Shape{3, 7};
      const Shape as = ta ? Shape{2, 3, 5} : Shape{2, 5, 3}, bs = tb ? Shape{2, 7, 3} : Shape{2, 3, 7};
      check_gradients([&](const Inputs& in) { return matmul(in[0], in[1], options); },
                      {normal(a), normal(b)});
      const Function batched = [&](const Inputs& in) { return bmm(in[0], in[1], options); };
      check_gradients(batched, {normal(as), normal(bs)});
      check_gradients(batched, {normal(a), normal(bs)});
      check_gradients(batched, {normal(as), normal(b)});
    }
  const Function f = [](const Inputs& in) { return linear(in[0], in[1], in.size() > 2 ? in[2] : Tensor()); };
  for (const Shape& x : {Shape{5, 3}, Shape{2, 3, 3}, Shape{2, 1, 2, 3}, Shape{3}}) {
    CAPTURE(x.to_string());
    check_gradients(f, {normal(x), normal({4, 3}), normal({4})});
    check_gradients(f, {normal(x), normal({4, 3})});
  }
  const Function added = [](const Inputs& in) { return baddbmm(in[0], in[1], in[2]); };
  check_gradients(added, {normal({2, 5, 4}), normal({2, 5, 3}), normal({2, 3, 4})});
  check_gradients(added, {normal({2, 5, 4}), normal({5, 3}), normal({2, 3, 4})});
  check_gradients(added, {normal({2, 5, 4}), normal({2, 5, 3}), normal({3, 4})});
  check_gradients(added, {normal({2, 5, 4}), normal({2, 5, 0}), normal({0, 4})});
  for (const BaddbmmOptions o : {BaddbmmOptions{.beta = 0.5}, BaddbmmOptions{.alpha = -2},
                                 BaddbmmOptions{.beta = 3, .alpha = 0.25}, BaddbmmOptions{.beta = 0}}) {
    CAPTURE(o.beta);
    CAPTURE(o.alpha);
    const Function f = [&](const Inputs& in) { return baddbmm(in[0], in[1], in[2], o); };
    for (const auto& [a, b] :
         {std::pair(Shape{2, 5, 3}, Shape{2, 3, 4}), std::pair(Shape{5, 3}, Shape{2, 3, 4}),
          std::pair(Shape{2, 5, 3}, Shape{3, 4}), std::pair(Shape{2, 5, 0}, Shape{0, 4})}) {
      const Inputs in{normal({2, 5, 4}), normal(a), normal(b)};
      check_gradients(f, in);
      CHECK(amax(abs(f(in) - (in[0] * o.beta + bmm(in[1], in[2]) * o.alpha))).item() < 1e-14);
    }
  }
  const Tensor nan = Tensor::full({2, 5, 4}, std::nan(""), DType::f64);
  CHECK(amax(baddbmm(nan, Tensor::ones({2, 5, 3}, DType::f64), Tensor::ones({3, 4}, DType::f64), {.beta = 0}))
            .item() == 3);
  for (const auto& [a, b] :
       {std::pair(Shape{2, 5, 3}, Shape{2, 3, 4}), std::pair(Shape{5, 3}, Shape{2, 3, 4}),
        std::pair(Shape{2, 5, 3}, Shape{3, 4}), std::pair(Shape{2, 5, 0}, Shape{0, 4})}) {
    const Inputs in{normal({2, 5, 4}), normal(a), normal(b)};
    CHECK(amax(abs(added(in) - (in[0] + bmm(in[1], in[2])))).item() < 1e-14);
  }
  // One tensor in all its places, and in both of a product.
  check_gradients([](const Inputs& in) { return baddbmm(in[0], in[0], in[0]); }, {normal({2, 3, 3})});
  check_gradients(
      [](const Inputs& in) {
        return baddbmm(in[0], in[0], bmm(in[1], bmm(in[0], in[0], {.transpose_a = true})));
      },
      {normal({2, 4, 3}), normal({3, 3})});
  // x x^T: one tensor on both sides of a product.
  check_gradients([](const Inputs& in) { return bmm(in[0], in[0], {.transpose_a = true}); },
                  {normal({2, 3, 4})});
  check_gradients([](const Inputs& in) { return matmul(in[0], in[0], {.transpose_a = true}); },
                  {normal({3, 4})});
  check_gradients([](const Inputs& in) { return matmul(in[0], in[0], {.transpose_b = true}); },
                  {normal({3, 4})});
  check_gradients([](const Inputs& in) { return bmm(in[0], in[0], {.transpose_b = true}); },
                  {normal({2, 3, 5})});
}

TEST_CASE("conv2d") {
  struct Convolution {
    Shape x, weight;
    Conv2dOptions options = {};
  };
  const Convolution cases[] = {
      {{2, 5, 7, 3}, {4, 3, 3, 3}},
      {{2, 5, 7, 3}, {4, 3, 3, 3}, {.padding = 1}},
      {{1, 7, 6, 2}, {3, 3, 3, 2}, {.stride = 2, .padding = 1}},
      {{1, 8, 7, 2}, {3, 3, 3, 2}, {.stride = 3, .padding = 2}},
      {{1, 7, 8, 2}, {3, 3, 3, 2}, {.padding = 2, .dilation = 2}},
      {{1, 9, 8, 2}, {3, 3, 3, 2}, {.stride = 2, .padding = 1, .dilation = 3}},
      {{1, 5, 4, 6}, {9, 3, 3, 2}, {.padding = 1, .groups = 3}},
      {{1, 7, 6, 4}, {6, 3, 3, 2}, {.stride = 2, .padding = 1, .groups = 2}},
      {{2, 5, 6, 5}, {5, 3, 3, 1}, {.padding = 1, .groups = 5}},
      {{1, 7, 6, 3}, {6, 3, 3, 1}, {.stride = 2, .padding = 2, .dilation = 2, .groups = 3}},
      {{2, 4, 3, 5}, {7, 1, 1, 5}},
      {{1, 5, 6, 5}, {3, 1, 1, 5}, {.stride = 2}},
      {{1, 4, 3, 3}, {2, 1, 1, 3}, {.padding = 1}},
      {{1, 6, 7, 2}, {3, 2, 4, 2}, {.stride = 2, .padding = 1}},
      {{1, 6, 7, 2}, {3, 3, 5, 2}, {.padding = 2}},
      {{3, 4, 5, 2}, {3, 4, 5, 2}},
      {{2, 1, 1, 3}, {4, 3, 3, 3}, {.padding = 1}},
      {{1, 8, 8, 1}, {1, 3, 3, 1}, {.stride = 3}},  // last row and column are not read
  };
  for (const Convolution& c : cases) {
    CAPTURE(c.x.to_string());
    CAPTURE(c.weight.to_string());
    const Function f = [&](const Inputs& in) {
      return conv2d(in[0], in[1], in.size() > 2 ? in[2] : Tensor(), c.options);
    };
    check_gradients(f, {normal(c.x), normal(c.weight), normal({c.weight[0]})});
    check_gradients(f, {normal(c.x), normal(c.weight)});
  }
}

TEST_CASE("pools") {
  struct Pool {
    Shape x;
    Pool2dOptions options;
  };
  const Pool cases[] = {
      {{2, 6, 8, 3}, {}},
      {{2, 7, 5, 3}, {}},
      {{2, 7, 5, 3}, {.ceil_mode = true}},
      {{1, 7, 8, 3}, {.kernel = 3, .stride = 2, .padding = 1}},
      {{1, 8, 7, 2}, {.kernel = 3, .stride = 2, .ceil_mode = true}},
      {{1, 8, 7, 2}, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true}},
      {{1, 5, 6, 3}, {.kernel = 3, .stride = 1, .padding = 1}},
      {{1, 6, 7, 2}, {.kernel = 2, .stride = 3, .padding = 1, .ceil_mode = true}},
      {{1, 9, 8, 2}, {.kernel = 4, .stride = 3, .padding = 2, .ceil_mode = true}},
      {{2, 1, 3, 2}, {.kernel = 2, .ceil_mode = true}},
  };
  for (const Pool& c : cases) {
    CAPTURE(c.x.to_string());
    CAPTURE(c.options.kernel);
    check_gradients([&](const Inputs& in) { return max_pool2d(in[0], c.options); }, {normal(c.x)});
    for (const bool count : {true, false}) {
      CAPTURE(count);
      Pool2dOptions options = c.options;
      options.count_include_pad = count;
      check_gradients([&](const Inputs& in) { return avg_pool2d(in[0], options); }, {normal(c.x)});
    }
  }
  check_gradients([](const Inputs& in) { return global_avg_pool(in[0]); }, {normal({2, 3, 5, 3})});
}

TEST_CASE("batch norm: training and eval, with every activation, with and without residual") {
  for (int i = 0; i < kActivationCount; ++i)
    for (const bool training : {true, false})
      for (const bool with_residual : {false, true})
        for (const Shape& shape : {Shape{2, 3, 2, 3}, Shape{7, 2}}) {
          const Activation act = activation_at(i);
          CAPTURE(activation_name(act));
          CAPTURE(training);
          CAPTURE(with_residual);
          CAPTURE(shape.to_string());
          const Shape channels{shape[-1]};
          const Tensor running_mean = normal(channels), running_var = positive(channels);
          const Function f = [&](const Inputs& in) {
            return batch_norm(in[0], in[1], in[2], running_mean.clone(), running_var.clone(), training,
                              {.eps = 1e-3, .activation = act}, in.size() > 3 ? in[3] : Tensor());
          };
          Inputs inputs{normal(shape, 2), nonzero(channels), normal(channels)};
          if (with_residual) inputs.push_back(normal(shape));
          check_gradients(f, inputs);
        }
}

TEST_CASE("fused batch norm equals its parts") {
  const Shape shape{2, 3, 5, 4}, channels{4};
  for (int i = 0; i < kActivationCount; ++i)
    for (const bool training : {true, false}) {
      const Activation act = activation_at(i);
      CAPTURE(activation_name(act));
      CAPTURE(training);
      const Inputs in{normal(shape, 2), nonzero(channels), normal(channels), normal(shape)};
      const Tensor mean = normal(channels), var = positive(channels), upstream = normal(shape);
      const auto run = [&](bool fused) {
        const Tensor m = mean.clone(), v = var.clone();
        for (const Tensor& t : in) t.set_requires_grad().zero_grad();
        Tape tape;
        const Tensor y = fused ? batch_norm(in[0], in[1], in[2], m, v, training, {.activation = act}, in[3])
                               : activation(batch_norm(in[0], in[1], in[2], m, v, training) + in[3], act);
        tape.backward(y, upstream);
        return Inputs{y, in[0].grad(), in[1].grad(), in[2].grad(), in[3].grad(), m, v};
      };
      const Inputs fused = run(true), parts = run(false);
      for (size_t k = 0; k < fused.size(); ++k)
        for (int64_t j = 0; j < fused[k].numel(); ++j)
          CHECK(fused[k].at(j) == doctest::Approx(parts[k].at(j)).epsilon(1e-12));
    }
}

TEST_CASE("dropout") {
  for (const double p : {0.0, 0.4, 0.9, 1.0}) {
    CAPTURE(p);
    check_gradients(
        [p](const Inputs& in) {
          Generator same(5);  // the same mask each time
          return dropout(in[0], p, true, same);
        },
        {normal({3, 5, 7})});
  }
  check_gradients([](const Inputs& in) { return dropout(in[0], 0.4, false); }, {normal({3, 5})});
}

TEST_CASE("softmax and losses") {
  for (const Shape& shape : {Shape{5, 3}, Shape{2, 3, 7}, Shape{4}, Shape{3, 1}}) {
    CAPTURE(shape.to_string());
    check_gradients([](const Inputs& in) { return softmax(in[0]); }, {normal(shape)});
    check_gradients([](const Inputs& in) { return log_softmax(in[0]); }, {normal(shape, 3)});
  }
  const Tensor labels = Tensor::from<int64_t>({3, 0, 6, 3, 1}, {5}), soft = softmax(normal({5, 7}));
  for (const double smoothing : {0.0, 0.1, 1.0})
    for (const Tensor& target : {labels, soft}) {
      CAPTURE(smoothing);
      CAPTURE(target.to_string());
      check_gradients_of_first(
          1, [&](const Inputs& in) { return cross_entropy(in[0], in[1], {.label_smoothing = smoothing}); },
          {normal({5, 7}, 2), target});
    }
  check_gradients_of_first(1, [](const Inputs& in) { return mse_loss(in[0], in[1]); },
                           {normal({3, 5}), normal({3, 5})});
}

TEST_CASE("ops that move data") {
  check_gradients([](const Inputs& in) { return reshape(in[0], {5, -1}); }, {normal({2, 3, 5})});
  check_gradients([](const Inputs& in) { return flatten(in[0]); }, {normal({2, 3, 5})});
  check_gradients([](const Inputs& in) { return flatten(in[0], 0); }, {normal({2, 3, 5})});
  for (const std::vector<int>& order :
       {std::vector{1, 0}, {2, 0, 1}, {0, 2, 1}, {0, 3, 1, 2}, {3, 2, 1, 0}}) {
    const Shape full{2, 3, 5, 4};
    const Shape shape(std::span(full.begin(), order.size()));
    CAPTURE(shape.to_string());
    check_gradients([&](const Inputs& in) { return permute(in[0], order); }, {normal(shape)});
  }
  const auto join = [](int dim) { return [dim](const Inputs& in) { return concat(in, dim); }; };
  check_gradients(join(0), {normal({2, 3}), normal({1, 3}), normal({5, 3})});
  check_gradients(join(1), {normal({2, 3, 2}), normal({2, 1, 2}), normal({2, 5, 2})});
  check_gradients(join(-1), {normal({2, 3, 2}), normal({2, 3, 7})});
  check_gradients(join(0), {normal({3})});
}

TEST_CASE("argmax is not differentiable") {
  const Tensor x = normal({3, 5}).set_requires_grad();
  Tape tape;
  CHECK_FALSE(argmax(x).requires_grad());
}

namespace {

/// x^2, whose backward multiplies by `slope` instead of 2, and adds `offset` to the gradient of element 3.
Tensor odd_square(const Tensor& x, double slope, double offset) {
  Tensor y;
  {
    NoGrad off;
    y = square(x);
  }
  record("odd_square", {x}, {y}, [=](BackwardContext& context) {
    const Tensor g = affine(mul(context.grad_output(), x), slope);
    g.data<double>()[3] += offset;
    context.set(0, g);
  });
  return y;
}

}  // namespace

TEST_CASE("gradcheck tells a right gradient from a wrong one") {
  const Tensor x = nonzero({2, 5}).set_requires_grad();
  const auto run = [&](double slope, double offset) {
    return gradcheck([=](const Inputs& in) { return odd_square(in[0], slope, offset); }, {x});
  };
  CHECK(run(2, 0).ok);
  CHECK_FALSE(run(-2, 0).ok);
  CHECK_FALSE(run(2.0001, 0).ok);
  CHECK_FALSE(run(2, NAN).ok);
  const GradcheckResult one = run(2, 1e-4);
  CHECK_FALSE(one.ok);
  CHECK(one.message.find("element 3") != std::string::npos);
  CHECK(one.max_error > 1e-6);

  // A gradient that never arrives.
  CHECK_FALSE(gradcheck([](const Inputs& in) { return in[0].detach() * in[1]; },
                        {x, normal({2, 5}).set_requires_grad()})
                  .ok);
}

TEST_CASE("gradcheck refuses what it cannot check") {
  const Function f = [](const Inputs& in) { return square(in[0]); };
  CHECK_THROWS_AS(gradcheck(f, {Tensor::ones({3}).set_requires_grad()}), Error);
  CHECK_THROWS_AS(gradcheck(f, {Tensor::ones({3}, DType::f64)}), Error);
}
