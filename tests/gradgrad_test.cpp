// Gradients of gradients: every op's second derivative against finite differences of its first, in f64 on odd
// shapes, in the middle of a chain. And what Tape::grad promises.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "support/errors.h"
#include "support/gradients.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::test;

namespace {

/// f alone, then between curved ops on both sides (so that its gradient depends on everything), with all
/// inputs wanting a gradient; then with each of them alone.
void check_second(const Function& f, const Inputs& inputs, const GradcheckOptions& options = {}) {
  const auto good = [&](const Function& function) { expect_good(gradgradcheck(function, inputs, options)); };
  const Function chain = [&](const Inputs& leaves) {
    Inputs bent;
    for (const Tensor& t : leaves) bent.push_back(t.dtype() == DType::f64 ? t + 0.05 * square(t) : t);
    return exp(0.25 * f(bent));
  };
  want(inputs, 0, inputs.size());
  good(f);
  good(chain);
  for (size_t k = 0; inputs.size() > 1 && k < inputs.size(); ++k) {
    if (inputs[k].dtype() != DType::f64) continue;
    CAPTURE(k);
    want(inputs, k, k + 1);
    good(chain);
  }
}

double value(const Tensor& t) { return t.item(); }

Tensor scalar(double x) { return Tensor::scalar(x, DType::f64).set_requires_grad(); }

}  // namespace

TEST_CASE("binary ops, broadcast both ways") {
  const std::pair<Shape, Shape> shapes[] = {
      {{3, 5}, {3, 5}}, {{2, 3, 5}, {5}}, {{3, 5}, {2, 1, 1}}, {{}, {3, 2}}, {{2, 1, 3, 1}, {2, 3, 1, 2}}};
  using Op = Tensor (*)(const Tensor&, const Tensor&);
  for (const Op op : {Op(add), Op(sub), Op(mul), Op(div), Op(maximum), Op(minimum)})
    for (const auto& pair : shapes) {
      CAPTURE(pair.first.to_string());
      CAPTURE(pair.second.to_string());
      check_second([&](const Inputs& in) { return op(in[0], in[1]); },
                   {normal(pair.first), nonzero(pair.second)});
    }
  check_second([](const Inputs& in) { return in[0] * in[0] - in[0] / square(in[0]); }, {nonzero({3, 5})});
}

TEST_CASE("unary ops") {
  using Op = Tensor (*)(const Tensor&);
  for (const Op op : {Op(neg), Op(exp), Op(square), Op(abs), Op(reciprocal)})
    check_second([&](const Inputs& in) { return op(in[0]); }, {nonzero({3, 5})});
  for (const Op op : {Op(log), Op(sqrt)})
    check_second([&](const Inputs& in) { return op(in[0]); }, {positive({3, 5})});
  check_second([](const Inputs& in) { return affine(in[0], -2.5, 0.75); }, {normal({5, 3})});
}

TEST_CASE("activations") {
  for (int i = 0; i < kActivationCount; ++i) {
    const auto act = static_cast<Activation>(i);
    CAPTURE(activation_name(act));
    check_second([act](const Inputs& in) { return activation(in[0], act); }, {nonzero({3, 5, 2}, 0.01)});
    check_second([act](const Inputs& in) { return activation(in[0], act, 0.7); }, {nonzero({7}, 0.01)});
  }
}

TEST_CASE("activation of a sum") {
  check_second([](const Inputs& in) { return add_activation(in[0], in[1], Activation::mish); },
               {normal({3, 5}), normal({3, 5})});
}

TEST_CASE("reductions") {
  using Op = Tensor (*)(const Tensor&, const std::vector<int>&, bool);
  const std::vector<int> dims[] = {{}, {0}, {-1}, {1, 2}, {0, 2}};
  for (const Op op : {Op(sum), Op(mean), Op(amax), Op(amin)})
    for (const std::vector<int>& d : dims)
      for (const bool keepdim : {false, true})
        check_second([&](const Inputs& in) { return op(in[0], d, keepdim); }, {normal({2, 3, 5})});
}

TEST_CASE("matrix products") {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      CAPTURE(ta);
      CAPTURE(tb);
      const MatmulOptions o{.transpose_a = ta, .transpose_b = tb};
      const Shape a = ta ? Shape{3, 5} : Shape{5, 3}, b = tb ? Shape{2, 3} : Shape{3, 2};
      const Shape as = ta ? Shape{2, 3, 5} : Shape{2, 5, 3}, bs = tb ? Shape{2, 2, 3} : Shape{2, 3, 2};
      check_second([&](const Inputs& in) { return matmul(in[0], in[1], o); }, {normal(a), normal(b)});
      const Function batched = [&](const Inputs& in) { return bmm(in[0], in[1], o); };
      check_second(batched, {normal(as), normal(bs)});
      check_second(batched, {normal(a), normal(bs)});
      check_second(batched, {normal(as), normal(b)});
    }
  check_second([](const Inputs& in) { return baddbmm(in[0], in[1], in[2]); },
               {normal({2, 3, 2}), normal({2, 3, 3}), normal({2, 3, 2})});
  check_second([](const Inputs& in) { return baddbmm(in[0], in[0], in[0]); }, {normal({2, 2, 2})});
  check_second([](const Inputs& in) { return baddbmm(in[0], in[1], in[2], {.beta = 0.5, .alpha = -2}); },
               {normal({2, 3, 2}), normal({2, 3, 3}), normal({2, 3, 2})});
  const Function f = [](const Inputs& in) { return linear(in[0], in[1], in.size() > 2 ? in[2] : Tensor()); };
  check_second(f, {normal({2, 3, 3}), normal({4, 3}), normal({4})});
  check_second(f, {normal({5, 3}), normal({4, 3})});
  check_second([](const Inputs& in) { return bmm(in[0], in[0], {.transpose_a = true}); },
               {normal({2, 2, 3})});
  check_second([](const Inputs& in) { return bmm(in[0], in[0], {.transpose_b = true}); },
               {normal({2, 3, 2})});
}

TEST_CASE("conv2d") {
  struct Convolution {
    Shape x, weight;
    Conv2dOptions options = {};
  };
  const Convolution cases[] = {{{2, 4, 3, 2}, {3, 3, 3, 2}, {.padding = 1}},
                               {{1, 6, 5, 2}, {3, 3, 3, 2}, {.stride = 2, .padding = 1}},
                               {{1, 5, 6, 2}, {2, 3, 3, 2}, {.padding = 2, .dilation = 2}},
                               {{1, 4, 5, 4}, {6, 3, 3, 2}, {.stride = 2, .padding = 1, .groups = 2}},
                               {{1, 4, 3, 3}, {3, 3, 3, 1}, {.padding = 1, .groups = 3}},
                               {{2, 2, 3, 3}, {2, 1, 1, 3}},
                               {{1, 6, 6, 1}, {1, 3, 3, 1}, {.stride = 4}}};
  for (const Convolution& c : cases) {
    CAPTURE(c.x.to_string());
    CAPTURE(c.weight.to_string());
    const Function f = [&](const Inputs& in) {
      return conv2d(in[0], in[1], in.size() > 2 ? in[2] : Tensor(), c.options);
    };
    check_second(f, {normal(c.x), normal(c.weight, 0.5), normal({c.weight[0]})});
    check_second(f, {normal(c.x), normal(c.weight, 0.5)});
  }
}

TEST_CASE("pools") {
  const Pool2dOptions cases[] = {{},
                                 {.kernel = 3, .stride = 2, .padding = 1},
                                 {.kernel = 3, .stride = 1, .padding = 1},
                                 {.kernel = 2, .stride = 3, .padding = 1, .ceil_mode = true},
                                 {.kernel = 3, .stride = 2, .ceil_mode = true, .count_include_pad = false}};
  for (const Pool2dOptions& o : cases) {
    CAPTURE(o.kernel);
    check_second([&](const Inputs& in) { return max_pool2d(in[0], o); }, {normal({2, 5, 4, 2})});
    check_second([&](const Inputs& in) { return avg_pool2d(in[0], o); }, {normal({2, 5, 4, 2})});
  }
  check_second([](const Inputs& in) { return global_avg_pool(in[0]); }, {normal({2, 3, 2, 3})});
}

TEST_CASE("batch norm, fused with every activation and a residual") {
  for (int i = 0; i < kActivationCount; ++i)
    for (const bool training : {true, false})
      for (const bool with_residual : {false, true}) {
        const auto act = static_cast<Activation>(i);
        CAPTURE(activation_name(act));
        CAPTURE(training);
        CAPTURE(with_residual);
        const Shape shape{2, 2, 2, 2}, channels{2};
        const Tensor running_mean = normal(channels), running_var = positive(channels);
        Inputs inputs{normal(shape, 2), nonzero(channels), normal(channels)};
        if (with_residual) inputs.push_back(normal(shape));
        want(inputs, 0, inputs.size());
        const GradcheckResult result = gradgradcheck(
            [&](const Inputs& in) {
              return batch_norm(in[0], in[1], in[2], running_mean.clone(), running_var.clone(), training,
                                {.eps = 1e-3, .activation = act}, in.size() > 3 ? in[3] : Tensor());
            },
            inputs);
        CHECK_MESSAGE(result.ok, result.message);
      }
}

TEST_CASE("softmax and losses") {
  for (const Shape& shape : {Shape{3, 4}, Shape{2, 3, 2}, Shape{3, 1}}) {
    check_second([](const Inputs& in) { return softmax(in[0]); }, {normal(shape)});
    check_second([](const Inputs& in) { return log_softmax(in[0]); }, {normal(shape)});
  }
  const Tensor labels = Tensor::from<int64_t>({3, 0, 4}, {3}), soft = softmax(normal({3, 5})).detach();
  for (const double smoothing : {0.0, 0.1})
    for (const Tensor& target : {labels, soft})
      check_second(
          [&](const Inputs& in) { return cross_entropy(in[0], target, {.label_smoothing = smoothing}); },
          {normal({3, 5})});
  check_second(
      [&](const Inputs& in) {
        return cross_entropy(in[0], labels, {.ignore_index = 0, .reduction = Reduction::none});
      },
      {normal({3, 5})});
  const Tensor target = normal({3, 2});
  check_second([&](const Inputs& in) { return mse_loss(in[0], target); }, {normal({3, 2})});
}

TEST_CASE("ops that move data, and dropout") {
  check_second([](const Inputs& in) { return reshape(in[0], {3, -1}); }, {normal({2, 3})});
  check_second([](const Inputs& in) { return permute(in[0], {2, 0, 1}); }, {normal({2, 3, 2})});
  check_second([](const Inputs& in) { return narrow(in[0], 1, 1, 2); }, {normal({2, 4, 2})});
  for (const int dim : {0, 1, -1})
    check_second(
        [dim](const Inputs& in) {
          return concat({in[0], in[1], in[0]}, dim);
        },
        {normal({2, 3, 2}), normal({2, 3, 2})});
  check_second(
      [](const Inputs& in) {
        Generator same(5);
        return dropout(in[0], 0.4, true, same);
      },
      {normal({3, 5})});
}

TEST_CASE("a checkpoint: what it runs again is recorded") {
  const Tensor w = normal({3, 3}).set_requires_grad();
  const Function block = [](const Inputs& in) { return weft::tanh(matmul(in[0], in[1])); };
  check_second([&](const Inputs& in) { return checkpoint(block, in); }, {normal({2, 3}), normal({3, 3})});
  // A leaf that f reads by itself, and a checkpoint in a checkpoint.
  const auto second = [&](bool again) {
    Generator own(3);
    const Tensor x = Tensor::normal({2, 3}, 0, 1, own, DType::f64).set_requires_grad();
    const auto inner = [&](const Tensor& t) { return weft::tanh(matmul(t, w)); };
    const auto outer = [&](const Tensor& t) { return square(again ? checkpoint(inner, t) : inner(t)); };
    Tape tape;
    const Tensor y = sum(again ? checkpoint(outer, x) : outer(x));
    const Tensor penalty = sum(square(tape.grad(y, {x}, {.create_graph = true})[0]));
    return tape.grad(penalty, {w, x});
  };
  const auto plain = second(false), again = second(true);
  // Not to the bit: the second walk meets the same terms in another order.
  for (size_t k = 0; k < 2; ++k)
    for (int64_t i = 0; i < plain[k].numel(); ++i)
      CHECK(plain[k].at(i) == doctest::Approx(again[k].at(i)).epsilon(1e-12));
}

TEST_CASE("grad through a checkpoint, of what it is asked for only") {
  const Tensor x = normal({2, 3}).set_requires_grad(), w = normal({3, 3}).set_requires_grad();
  const auto block = [&](const Tensor& t) { return square(matmul(weft::tanh(t), w)); };
  const auto gradients = [&](bool again, const Inputs& of) {
    Tape tape;
    const Tensor h = x * 2.0, y = sum(again ? checkpoint(block, h) : block(h));
    Inputs g = tape.grad(y, of, {.retain_graph = true});
    for (const Tensor& t : tape.grad(y, of)) g.push_back(t);  // the same once more
    return g;
  };
  for (const Inputs& of : {Inputs{x}, Inputs{w}, Inputs{x, w}}) {
    const Inputs plain = gradients(false, of), again = gradients(true, of);
    REQUIRE(plain.size() == again.size());
    for (size_t i = 0; i < plain.size(); ++i) {
      CHECK(plain[i].to_vector<double>() == again[i].to_vector<double>());
      CHECK(plain[i].to_vector<double>() == plain[i % of.size()].to_vector<double>());
    }
    CHECK(!x.grad().defined());
    CHECK(!w.grad().defined());
  }
}

TEST_CASE("derivatives of any order") {
  const Tensor x = scalar(0.7);
  Tape tape;
  Tensor d = exp(2.0 * x) / x;
  for (int order = 1; order <= 4; ++order) d = tape.grad(d, {x}, {.create_graph = true})[0];
  // d^4 (e^2x / x): Leibniz, sum_k C(4, k) 2^(4 - k) e^2x (-1)^k k! / x^(k + 1)
  double expected = 0;
  const double binomial[] = {1, 4, 6, 4, 1}, factorial[] = {1, 1, 2, 6, 24};
  for (int k = 0; k <= 4; ++k)
    expected += binomial[k] * std::pow(2, 4 - k) * std::exp(1.4) * (k % 2 ? -1 : 1) * factorial[k] /
                std::pow(0.7, k + 1);
  CHECK(value(d) == doctest::Approx(expected).epsilon(1e-12));
  CHECK(!x.grad().defined());
}

TEST_CASE("relu has derivatives of any order, mish two") {
  const Tensor x = scalar(0.7);
  Tape tape;
  const auto third = [&](Tensor y) {
    for (int i = 0; i < 3; ++i) y = tape.grad(y, {x}, {.create_graph = true})[0];
    return y;
  };
  CHECK(value(third(relu(x) * square(x))) == doctest::Approx(6));
  CHECK_ERROR(third(mish(x)), "mish: has no third derivative");
}

TEST_CASE("grad leaves the leaves alone, and walks only what it must") {
  const Tensor x = scalar(3), w = scalar(2);
  x.set_grad(Tensor::scalar(9, DType::f64));
  Tape tape;
  const Tensor u = w * x, y = square(u) + w;
  int passed = 0;
  tape.add_hook([&](const TapeEntry&, std::span<const Tensor>) { ++passed; });
  const auto of_u = tape.grad(y, {u}, {.retain_graph = true});
  CHECK(value(of_u[0]) == 12);
  CHECK(passed == 2);  // add, square; not the product before
  const auto g = tape.grad(y, {w, x, u, y}, {.retain_graph = true});
  CHECK(value(g[0]) == 2 * 6 * 3 + 1);
  CHECK(value(g[1]) == 2 * 6 * 2);
  CHECK(value(g[2]) == 12);
  CHECK(value(g[3]) == 1);
  CHECK(x.grad().item() == 9);
  CHECK(!w.grad().defined());
  CHECK(!g[0].requires_grad());
  // Several outputs, each with its gradient.
  const auto both = tape.grad(
      {y, u}, {x}, {.grad_outputs = {Tensor::scalar(2, DType::f64), Tensor::scalar(-1, DType::f64)}});
  CHECK(value(both[0]) == 2 * 24 - 2);
  CHECK_ERROR(tape.grad(y, {x}), "walked back already");
}

TEST_CASE("grad's errors") {
  const Tensor x = scalar(3), w = scalar(2), c = Tensor::scalar(1, DType::f64);
  Tape tape;
  const Tensor y = square(x);
  CHECK_ERROR(tape.grad(y, {x, w}, {.retain_graph = true}), "do not depend on input 1");
  CHECK(!tape.grad(y, {w}, {.retain_graph = true, .allow_unused = true})[0].defined());
  CHECK(value(tape.grad(y, {w}, {.retain_graph = true, .materialize_grads = true})[0]) == 0);
  CHECK_ERROR(tape.grad(y, {c}), "requires no gradient");
  CHECK_ERROR(tape.grad(y, {x}, {.grad_outputs = {c, c}}), "2 grad_outputs");
  CHECK_ERROR(tape.grad(Tensor(x * Tensor::ones({2}, DType::f64)), {x}), "not one element");
  CHECK_ERROR(tape.grad(y, {x}, {.grad_outputs = {Tensor::ones({2}, DType::f64)}}), "does not fit");
  const Tensor inner = [&] {
    Tape other;
    return square(x);
  }();
  CHECK_ERROR(tape.grad(y, {inner}), "belongs to another tape");
}

TEST_CASE("backward with create_graph: grad() has a history") {
  const Tensor x = scalar(3), w = scalar(2);
  {
    Tape tape;
    tape.backward(w * square(x), {.create_graph = true});
    const Tensor slope = x.grad();
    CHECK(value(slope) == 12);
    CHECK(slope.requires_grad());
    x.zero_grad(), w.zero_grad();
    tape.backward(square(slope));
    CHECK(value(x.grad()) == 2 * 12 * 4);  // d (2 w x)^2 / dx = 2 (2 w x) 2 w
    CHECK(value(w.grad()) == 2 * 12 * 6);
  }
  // What is left of a history does not disturb the next tape.
  Tape tape;
  tape.backward(square(x));
  CHECK(value(x.grad()) == 96 + 6);
  CHECK(!x.grad().requires_grad());
}

TEST_CASE("retain_graph: the same walk twice") {
  const Tensor x = normal({2, 5, 4, 3}).set_requires_grad(), w = normal({3, 3, 3, 3}).set_requires_grad();
  const Tensor gain = positive({3}).set_requires_grad(), bias = normal({3}).set_requires_grad();
  const Tensor mean = normal({3}), var = positive({3});
  Tape tape;
  Tensor y = conv2d(x, w, {}, {.padding = 1});
  y = batch_norm(y, gain, bias, mean.clone(), var.clone(), true, {.activation = Activation::mish});
  y = checkpoint([&](const Tensor& t) { return max_pool2d(t) * gain; }, y);
  const Tensor loss = sum(square(y));
  std::vector<std::vector<double>> first;
  for (int pass = 0; pass < 3; ++pass) {
    for (const Tensor& t : {x, w, gain, bias}) t.zero_grad();
    tape.backward(loss, {.retain_graph = pass < 2});
    std::vector<std::vector<double>> bits;
    for (const Tensor& t : {x, w, gain, bias}) bits.push_back(t.grad().to_vector<double>());
    if (pass == 0) first = bits;
    CHECK(bits == first);
  }
  CHECK_ERROR(tape.backward(loss), "walked back already");
}

TEST_CASE("an op without a recorded backward says so, and drops no term") {
  const auto cube = [](const Tensor& x, bool twice) {
    Tensor y;
    {
      const NoGrad quiet;
      y = x * square(x);
    }
    record("cube", {x}, {y}, [=](BackwardContext& c) { c.set(0, c.grad_output() * square(x) * 3.0); },
           {.double_backward = twice});
    return y;
  };
  const Tensor x = scalar(2);
  {
    Tape tape;
    const ScopeName scope("head");
    const Tensor y = cube(x, false) * 2.0;
    CHECK_ERROR(tape.grad(y, {x}, {.create_graph = true}), "cube in head: has no second derivative");
    // The tape is as it was.
    CHECK(value(tape.grad(y, {x})[0]) == 24);
    CHECK(!x.grad().defined());
  }
  Tape tape;
  const Tensor slope = tape.grad(cube(x, true), {x}, {.create_graph = true})[0];
  CHECK(value(tape.grad(slope, {x})[0]) == 12);
}

TEST_CASE("without create_graph nothing is recorded on the way back") {
  const Tensor x = scalar(2);
  Tape tape;
  const Tensor y = square(x) * x;
  const size_t entries = tape.entries().size();
  tape.grad(y, {x}, {.retain_graph = true});
  tape.backward(y);
  CHECK(tape.entries().size() == entries);
}

TEST_CASE("gradgradcheck tells a right second derivative from a wrong one") {
  // x^2, whose backward is right but forgets that it depends on x.
  const auto forgetful = [](const Tensor& x, bool forget) {
    Tensor y;
    {
      const NoGrad quiet;
      y = square(x);
    }
    record("forgetful", {x}, {y},
           [=](BackwardContext& c) { c.set(0, c.grad_output() * (forget ? x.detach() : x) * 2.0); },
           {.double_backward = true});
    return y;
  };
  const Tensor x = nonzero({5}).set_requires_grad();
  CHECK(gradcheck([&](const Inputs& in) { return forgetful(in[0], true); }, {x}).ok);
  CHECK_FALSE(gradgradcheck([&](const Inputs& in) { return forgetful(in[0], true); }, {x}).ok);
  CHECK(gradgradcheck([&](const Inputs& in) { return forgetful(in[0], false); }, {x}).ok);
}
