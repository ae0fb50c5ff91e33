// Batch norm fused with the activations that learn parameters: kernels, the op, the layer.
#include <algorithm>

#include "support/errors.h"
#include "support/gradients.h"
#include "support/kernel_tables.h"
#include "weft/engine/anomaly.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

std::vector<Activation> learned_activations() {
  std::vector<Activation> all;
  for (int i = 0; i < kLearnedActivationCount; ++i) all.push_back(Activation(kActivationCount + i));
  return all;
}

/// What a table computes: y, g, dweight, dbias, dx of training and of evaluation, dweight and dbias without
/// g, then the parameters' gradients with and without g.
constexpr size_t kFixedOutputs = 8;

template <class T>
struct Problem {
  int64_t rows = 0, channels = 0;
  std::vector<T> x = {}, residual = {}, dy = {}, mean = {}, invstd = {}, weight = {}, bias = {};
  std::vector<std::vector<T>> parameters = {};

  BatchNormArgs<T> args(Activation act, bool with_residual) const {
    BatchNormArgs<T> a;
    a.rows = rows, a.channels = channels, a.x = x.data(), a.activation = act;
    a.mean = mean.data(), a.invstd = invstd.data(), a.weight = weight.data(), a.bias = bias.data();
    if (with_residual) a.residual = residual.data();
    for (size_t k = 0; k < parameters.size(); ++k) a.parameters[k] = parameters[k].data();
    return a;
  }
  Problem<double> wide() const {
    Problem<double> w{rows,        channels,      widen(x),      widen(residual), widen(dy),
                      widen(mean), widen(invstd), widen(weight), widen(bias)};
    for (const auto& p : parameters) w.parameters.push_back(widen(p));
    return w;
  }
};

Problem<float> random_problem(Activation act, int64_t rows, int64_t channels) {
  const int64_t n = rows * channels;
  Problem<float> p{rows,
                   channels,
                   random_floats(n, -2, 2),
                   random_floats(n),
                   random_floats(n),
                   random_floats(channels),
                   random_floats(channels, 0.5f, 2),
                   random_floats(channels),
                   random_floats(channels)};
  for (const LearnedParameter& known : activation_parameters(act))
    p.parameters.push_back(random_floats(channels, float(known.start) - 0.3f, float(known.start) + 0.3f));
  return p;
}

std::vector<int64_t> sizes_of(int64_t n, int64_t channels, size_t parameters) {
  std::vector<int64_t> sizes{n, n, channels, channels, n, n, channels, channels};
  sizes.insert(sizes.end(), 2 * parameters, channels);
  return sizes;
}

/// Fills `out` (see kFixedOutputs), arrays with a data(); aliases where the table's entries allow it.
template <class T, class Out>
void run(const KernelTable<T>& table, const Problem<T>& p, Activation act, bool with_residual,
         const std::vector<T>& dweight, const std::vector<T>& dbias, Out& out) {
  BatchNormArgs<T> a = p.args(act, with_residual);
  if (with_residual) {
    std::copy(p.residual.begin(), p.residual.end(), out[0].data());
    a.residual = out[0].data();
  }
  table.batch_norm_forward(a, out[0].data());
  if (with_residual) a.residual = p.residual.data();
  const size_t count = p.parameters.size();
  T* gradients[2][kMostLearnedParameters] = {};
  for (size_t k = 0; k < 2 * count; ++k) gradients[k / count][k % count] = out[kFixedOutputs + k].data();
  std::copy(p.dy.begin(), p.dy.end(), out[1].data());
  table.batch_norm_backward_reduce(a, out[1].data(), out[1].data(), out[2].data(), out[3].data(),
                                   gradients[0]);
  table.batch_norm_backward_reduce(a, p.dy.data(), nullptr, out[6].data(), out[7].data(), gradients[1]);
  std::copy(p.dy.begin(), p.dy.end(), out[4].data());
  table.batch_norm_backward_input(a, out[4].data(), dweight.data(), dbias.data(), true, out[4].data());
  table.batch_norm_backward_input(a, p.dy.data(), dweight.data(), dbias.data(), false, out[5].data());
}

template <class T>
std::vector<std::vector<T>> expected_of(const Problem<T>& p, Activation act, bool with_residual) {
  std::vector<std::vector<T>> out;
  for (int64_t size : sizes_of(p.rows * p.channels, p.channels, p.parameters.size()))
    out.emplace_back(size_t(size));
  std::vector<T> zeros(size_t(p.channels), T(0));
  run(reference<T>(), p, act, with_residual, zeros, zeros, out);
  const std::vector<T> dweight = out[2], dbias = out[3];
  run(reference<T>(), p, act, with_residual, dweight, dbias, out);
  return out;
}

/// Parameters about where they start, [channels] each.
Inputs parameters_near_start(Activation act, int64_t channels) {
  Inputs list;
  for (const LearnedParameter& p : activation_parameters(act))
    list.push_back(Tensor::normal({channels}, p.start, 0.1, gradient_generator, DType::f64));
  return list;
}

/// batch_norm of inputs x, weight, bias, (residual), parameters.
Function fused(Activation act, bool training, bool with_residual, const Tensor& mean, const Tensor& var) {
  return [=](const Inputs& in) {
    return batch_norm(in[0], in[1], in[2], mean.clone(), var.clone(), training,
                      {.eps = 1e-3, .activation = act}, with_residual ? in[3] : Tensor(), {},
                      {in.begin() + (with_residual ? 4 : 3), in.end()});
  };
}

}  // namespace

TEST_CASE("every table is the reference, on random shapes with tails, for any number of threads") {
  const int64_t shapes[][2] = {{1, 1}, {7, 3}, {33, 16}, {20, 37}, {700, 64}, {3, 300}, {2000, 40}, {999, 7}};
  for (const auto& s : shapes)
    for (const Activation act : learned_activations())
      for (const bool with_residual : {false, true}) {
        CAPTURE(activation_name(act));
        CAPTURE(s[0]);
        CAPTURE(s[1]);
        CAPTURE(with_residual);
        const Problem<float> p = random_problem(act, s[0], s[1]);
        const auto expected = expected_of(p.wide(), act, with_residual);
        const Floats dweight(expected[2].begin(), expected[2].end()),
            dbias(expected[3].begin(), expected[3].end());
        each_table(
            sizes_of(s[0] * s[1], s[1], p.parameters.size()),
            [&](const auto& table, auto& out) { run(table, p, act, with_residual, dweight, dbias, out); },
            [&](const auto& out) {
              for (size_t o = 0; o < out.size(); ++o) {
                CAPTURE(o);
                const bool sum = out[o].size() == s[1] && o > 1 && o != 4 && o != 5;
                // Terms of a parameter's sum are as large as z, up to 8.
                const double of_one = o < kFixedOutputs ? 2e-6 : 8e-6;
                CHECK(excess(out[o], expected[o], sum ? of_one * (1 + std::sqrt(double(s[0]))) : 1e-5,
                             2e-6) <= 0);
              }
            });
      }
}

TEST_CASE("infinities, NaN and large numbers come out as from the reference") {
  const Floats x = {kInf, -kInf, kNaN, 1e30f, -1e30f, 1e4f, -1e4f, 0.0f, -0.0f, 0.5f};
  const auto n = int64_t(x.size());
  const Floats ones(x.size(), 1.0f), zeros(x.size(), 0.0f);
  for (const Activation act : learned_activations()) {
    CAPTURE(activation_name(act));
    Problem<float> p{1, n, x, zeros, ones, zeros, ones, ones, zeros};
    for (const LearnedParameter& known : activation_parameters(act))
      p.parameters.emplace_back(x.size(), float(known.start));
    const auto expected = expected_of(p, act, false);
    CHECK(expected[0][0] == kInf);
    CHECK(expected[0][1] == (act == Activation::swish_beta ? 0 : -kInf));
    for (const size_t o : {0, 1, 5, 8}) CHECK(std::isnan(expected[o][2]));
    CHECK(expected[1][0] == 1);
    each_table(
        sizes_of(n, n, p.parameters.size()),
        [&](const auto& table, auto& out) { run(table, p, act, false, zeros, zeros, out); },
        [&](const auto& out) {
          for (const size_t o : {0, 1, 3, 5, 7}) CHECK(excess(out[o], expected[o], 1e-6, 2e-6) <= 0);
          for (size_t o = kFixedOutputs; o < out.size(); ++o)
            CHECK(excess(out[o], expected[o], 1e-6, 2e-6) <= 0);
        });
  }
}

TEST_CASE("gradients against finite differences, and their gradients") {
  for (const Activation act : learned_activations())
    for (const bool training : {true, false})
      for (const bool with_residual : {false, true})
        for (const bool shared : {false, true})
          for (const Shape& shape : {Shape{2, 3, 1, 3}, Shape{7, 2}}) {
            CAPTURE(activation_name(act));
            CAPTURE(training);
            CAPTURE(with_residual);
            CAPTURE(shared);
            CAPTURE(shape.to_string());
            const Shape channels{shape[-1]};
            Inputs inputs{normal(shape, 2), nonzero(channels), normal(channels)};
            if (with_residual) inputs.push_back(normal(shape));
            for (const Tensor& p : parameters_near_start(act, shared ? 1 : shape[-1])) inputs.push_back(p);
            check_both_gradients(fused(act, training, with_residual, normal(channels), positive(channels)),
                                 inputs);
          }
}

TEST_CASE("fused is batch norm and then the activation, to rounding") {
  const Shape shape{3, 5, 7, 20}, channels{20};
  for (const DType dtype : {DType::f64, DType::f32})
    for (const Activation act : learned_activations())
      for (const bool training : {true, false})
        for (const bool with_residual : {false, true})
          for (const bool shared : {false, true}) {
            CAPTURE(activation_name(act));
            CAPTURE(training);
            CAPTURE(with_residual);
            CAPTURE(shared);
            Inputs in{normal(shape, 2), nonzero(channels), normal(channels)};
            if (with_residual) in.push_back(normal(shape));
            const size_t first = in.size();
            for (const Tensor& p : parameters_near_start(act, shared ? 1 : 20)) in.push_back(p);
            for (Tensor& t : in) t = t.to(dtype);
            const Tensor mean = normal(channels).to(dtype), var = positive(channels).to(dtype),
                         upstream = normal(shape).to(dtype);
            const auto run = [&](bool one) {
              const Tensor m = mean.clone(), v = var.clone();
              for (const Tensor& t : in) t.set_requires_grad().zero_grad();
              const Inputs learned(in.begin() + int64_t(first), in.end());
              const Tensor residual = with_residual ? in[3] : Tensor();
              Tape tape;
              const Tensor y =
                  one ? batch_norm(in[0], in[1], in[2], m, v, training, {.activation = act}, residual, {},
                                   learned)
                      : learned_activation(batch_norm(in[0], in[1], in[2], m, v, training, {}, residual), act,
                                           learned);
              CHECK(tape.entries().size() == (one ? 1 : 2));
              tape.backward(y, upstream);
              Inputs all{y.detach(), m, v};
              for (const Tensor& t : in) all.push_back(t.grad());
              return all;
            };
            const Inputs together = run(true), parts = run(false);
            const double tolerance = dtype == DType::f64 ? 1e-12 : 2e-5;
            for (size_t k = 0; k < together.size(); ++k) {
              CAPTURE(k);
              REQUIRE(together[k].shape() == parts[k].shape());
              for (int64_t j = 0; j < together[k].numel(); ++j)
                REQUIRE(together[k].at(j) == doctest::Approx(parts[k].at(j)).epsilon(tolerance));
            }
          }
}

namespace {

std::vector<std::string> ops_of(const Tape& tape) {
  std::vector<std::string> ops;
  for (const TapeEntry& e : tape.entries()) ops.push_back(concat(e.op, " ", e.detail));
  return ops;
}

Tensor floats(const Shape& shape) { return normal(shape).to(DType::f32); }

}  // namespace

TEST_CASE("the layer: one entry of the tape, with the names and the start of the activation's layer") {
  const Tensor x = floats({4, 3, 5}), residual = floats({4, 3, 5});
  for (const Activation act : learned_activations()) {
    Module root;
    BatchNorm2d bn{root, "bn", 5, {.activation = act}};
    const auto known = activation_parameters(act);
    for (const LearnedParameter& p : known)
      CHECK(find(root.state_dict(), concat("bn.act.", p.name)).to_vector<float>() ==
            Floats(5, float(p.start)));
    Tape tape;
    bn(x, residual);
    CHECK(ops_of(tape) ==
          std::vector<std::string>{concat("batch_norm train + residual + ", activation_name(act))});
  }
}

TEST_CASE("a hook on the activation finds it called, and gone it is fused again") {
  struct Net : Module {
    BatchNorm2d bn{*this, "bn", 5, {.activation = Activation::prelu}};
    Tensor forward(const Tensor& in) override { return bn(in); }
  } net;
  const Tensor x = floats({6, 5});
  const Tensor plain = net(x);
  int calls = 0;
  RemovableHandle hook = net.bn.act->register_forward_hook([&](Module&, const Tensor&, const Tensor& y) {
    ++calls;
    return y * 2.0;
  });
  const Tensor doubled = net(x);
  CHECK(calls == 1);
  for (int64_t i = 0; i < x.numel(); ++i)
    CHECK(doubled.at(i) == doctest::Approx(2 * plain.at(i)).epsilon(1e-6));
  hook.remove();
  CHECK(net(x).to_vector<float>() == plain.to_vector<float>());
  CHECK(calls == 1);
  for (const SummaryRow& row : summarize(net, {2, 5}).rows) {
    CHECK_MESSAGE(row.ran, row.path);
    CHECK(row.output == Shape{2, 5});
  }
}

TEST_CASE("rrelu is fused in evaluation, where it is a leaky ReLU") {
  Module root;
  BatchNorm2d bn{root, "bn", 5, {.activation = Activation::rrelu}};
  const Tensor x = floats({6, 5});
  {
    Tape tape;
    bn(x, {});
    CHECK(ops_of(tape).size() == 2);
  }
  root.eval();
  Tape tape;
  const Tensor y = bn(x, {});
  CHECK(ops_of(tape) == std::vector<std::string>{"batch_norm eval + leaky_relu"});
  const Tensor apart = rrelu(batch_norm(x, bn.weight, bn.bias, bn.running_mean, bn.running_var, false));
  for (int64_t i = 0; i < x.numel(); ++i) CHECK(y.at(i) == doctest::Approx(apart.at(i)).epsilon(1e-6));
}

TEST_CASE("NaN in a learned parameter is traced to it, and computing again gives the same bits") {
  struct Net : Module {
    BatchNorm2d bn{*this, "bn", 5, {.activation = Activation::srelu}};
    Tensor forward(const Tensor& in) override { return bn(in); }
  } net;
  const Tensor x = floats({6, 5}).set_requires_grad();
  const auto step = [&](bool again) {
    net.recompute(again);
    net.zero_grad();
    x.zero_grad();
    Tape tape;
    tape.backward(sum(square(net(x))));
    std::vector<Floats> all{x.grad().to_vector<float>()};
    for (const Parameter& p : net.parameters()) all.push_back(p.tensor.grad().to_vector<float>());
    return all;
  };
  CHECK(step(true) == step(false));
  net.bn.act->learned()[1].data<float>()[3] = kNaN;
  const std::string message = error_of([&] {
    DetectAnomaly tracing;
    net(x + 100.0);
    net.bn.act->learned()[0].data<float>()[3] = -100;
    net(x);
  });
  CHECK_MESSAGE(mentions(message, "forward of batch_norm in bn"), message);
  CHECK_MESSAGE(mentions(message, "input 5 f32 [5] has nan at [3]"), message);
}
