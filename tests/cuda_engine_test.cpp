// Ops with their gradients on a GPU (an emulated one, or a real one: cuda_engine_test_gpu) against the
// reference loops in f64 on the same inputs, rounded as the GPU gets them; and the engine's memory, captured
// steps and errors there.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "support/cuda_switches.h"
#include "support/device_arrays.h"
#include "support/errors.h"
#include "support/light.h"
#include "weft/engine/allocator.h"
#include "weft/engine/checkpoint.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/ops/batch_norm_avg_pool.h"
#include "weft/engine/ops/batch_norm_pair.h"
#include "weft/engine/ops/conv.h"
#include "weft/engine/ops/dropout.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/pool.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/rrelu.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"
#include "weft/engine/weight_copies.h"
#include "weft/kernels/convolution.h"
#include "weft/kernels/cuda.h"
#include "weft/layers/layers.h"
#include "weft/optim/optim.h"

#if WEFT_EMULATED
#include <weft_emulator.h>
#endif

using namespace weft;

namespace {

uint64_t seed() {
  static const uint64_t value = [] {
    const uint64_t s = test::new_seed();
    MESSAGE("WEFT_TEST_SEED=", s);
    return s;
  }();
  return value;
}

/// |a - b| / |b|; infinite where a has a value that is not finite and b has not.
double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.to(Device::cpu).to(DType::f64).to_vector<double>(),
             y = b.to(DType::f64).to_vector<double>();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i])) return std::numeric_limits<double>::infinity();
    difference += (x[i] - y[i]) * (x[i] - y[i]);
    norm += y[i] * y[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

struct Input {
  Shape shape;
  bool parameter = false;  // f32 beside 16-bit activations
};
using Inputs = std::vector<Tensor>;
struct Case {
  const char* name;
  std::vector<Input> inputs;
  std::function<Tensor(const Inputs&)> f;
  double low = -1, high = 1;
  double cancels = 1;  // the error of a gradient that is a small difference, over that of its terms
};

const std::vector<Case>& cases() {
  constexpr bool kParameter = true;
  static const std::vector<Case> list = {
      {"add, stretched", {{{3, 5, 7}}, {{5, 1}}}, [](const Inputs& x) { return x[0] + x[1]; }},
      {"sub", {{{3, 5}}, {{3, 5}}}, [](const Inputs& x) { return x[0] - x[1]; }},
      {"mul, stretched", {{{2, 3, 8}}, {{8}}}, [](const Inputs& x) { return x[0] * x[1]; }},
      {"div", {{{4, 9}}, {{4, 9}}}, [](const Inputs& x) { return x[0] / x[1]; }, 0.5, 2},
      {"maximum, stretched", {{{4, 9}}, {{9}}}, [](const Inputs& x) { return maximum(x[0], x[1]); }},
      {"minimum", {{{37}}, {{37}}}, [](const Inputs& x) { return minimum(x[0], x[1]); }},
      {"affine", {{{13}}}, [](const Inputs& x) { return affine(x[0], 0.3, -0.7); }},
      {"neg", {{{13}}}, [](const Inputs& x) { return neg(x[0]); }},
      {"exp", {{{5, 13}}}, [](const Inputs& x) { return exp(x[0]); }},
      {"log", {{{5, 13}}}, [](const Inputs& x) { return log(x[0]); }, 0.1, 3},
      {"sqrt", {{{65}}}, [](const Inputs& x) { return sqrt(x[0]); }, 0.1, 3},
      {"square", {{{65}}}, [](const Inputs& x) { return square(x[0]); }},
      {"abs", {{{65}}}, [](const Inputs& x) { return abs(x[0]); }},
      {"reciprocal", {{{65}}}, [](const Inputs& x) { return reciprocal(x[0]); }, 0.5, 3},
      {"mish", {{{3, 77}}}, [](const Inputs& x) { return mish(x[0]); }, -4, 4},
      {"tanhexp", {{{3, 77}}}, [](const Inputs& x) { return activation(x[0], Activation::tanhexp); }, -4, 4},
      {"leaky relu", {{{3, 77}}}, [](const Inputs& x) { return leaky_relu(x[0], 0.2); }},
      {"mish of a sum",
       {{{3, 77}}, {{3, 77}}},
       [](const Inputs& x) { return add_activation(x[0], x[1], Activation::mish); },
       -2,
       2},
      {"leaky relu of a sum of what has another use",
       {{{3, 77}}, {{3, 77}}},
       [](const Inputs& x) {
         const Tensor y = affine(x[0], 0.5);
         return add_activation(y, x[1], Activation::leaky_relu, 0.2) + add_activation(y, y, Activation::relu);
       }},
      {"silu of a stretched sum",
       {{{3, 77}}, {{77}}},
       [](const Inputs& x) { return add_activation(x[0], x[1], Activation::silu); },
       -2,
       2},
      {"sum of all", {{{3, 5, 7}}}, [](const Inputs& x) { return sum(x[0]); }, 0, 1},
      {"sum",
       {{{3, 5, 7}}},
       [](const Inputs& x) {
         return sum(x[0], {0, 2});
       },
       0,
       1},
      {"mean", {{{3, 5, 7}}}, [](const Inputs& x) { return mean(x[0], {1}, true); }, 0, 1},
      {"amax", {{{3, 5, 7}}}, [](const Inputs& x) { return amax(x[0], {1}); }},
      {"amin", {{{3, 5, 7}}}, [](const Inputs& x) { return amin(x[0], {-1}); }},
      {"reshape, permute",
       {{{3, 4, 5}}},
       [](const Inputs& x) {
         return permute(reshape(x[0], {3, 2, 2, 5}), {3, 1, 0, 2});
       }},
      {"concat",
       {{{3, 4, 5}}, {{3, 2, 5}}},
       [](const Inputs& x) {
         return concat({x[0], x[1]}, 1);
       }},
      {"matmul", {{{7, 13}}, {{13, 5}}}, [](const Inputs& x) { return matmul(x[0], x[1]); }},
      {"matmul, transposed",
       {{{13, 7}}, {{5, 13}}},
       [](const Inputs& x) { return matmul(x[0], x[1], {.transpose_a = true, .transpose_b = true}); }},
      {"bmm", {{{3, 7, 13}}, {{3, 13, 5}}}, [](const Inputs& x) { return bmm(x[0], x[1]); }},
      {"bmm, one matrix",
       {{{13, 7}}, {{3, 13, 5}}},
       [](const Inputs& x) { return bmm(x[0], x[1], {.transpose_a = true}); }},
      {"baddbmm",
       {{{3, 7, 5}}, {{3, 7, 13}}, {{3, 13, 5}}},
       [](const Inputs& x) { return baddbmm(x[0], x[1], x[2]); }},
      {"baddbmm, scaled",
       {{{3, 7, 5}}, {{3, 7, 13}}, {{3, 13, 5}}},
       [](const Inputs& x) { return baddbmm(x[0], x[1], x[2], {.beta = 0.5, .alpha = -2}); }},
      {"baddbmm, of the product alone",
       {{{3, 7, 5}}, {{3, 7, 13}}, {{3, 13, 5}}},
       [](const Inputs& x) { return baddbmm(x[0], x[1], x[2], {.beta = 0}); }},
      {"baddbmm, one matrix",
       {{{3, 7, 5}}, {{7, 13}}, {{3, 13, 5}}},
       [](const Inputs& x) { return baddbmm(x[0], x[1], x[2]); }},
      // Gradients that add up in the kernels that make them: what was recorded first adds to the rest.
      {"baddbmm of one tensor in all places",
       {{{2, 9, 9}}},
       [](const Inputs& x) {
         const Tensor y = affine(x[0], 0.5);
         return baddbmm(y, y, bmm(y, y, {.transpose_a = true}));
       }},
      {"matmul of what has another use",
       {{{7, 7}}, {{7, 7}}},
       [](const Inputs& x) {
         const Tensor y = affine(x[0], 0.5), z = affine(x[1], 0.5);
         const Tensor one = matmul(y, z), two = matmul(z, y, {.transpose_b = true});
         return one + two + square(y) + square(z);
       }},
      {"conv2d of what has another use",
       {{{2, 7, 9, 8}}, {{8, 3, 3, 8}, kParameter}},
       [](const Inputs& x) {
         const Tensor y = affine(x[0], 0.5);
         const Tensor first = conv2d(y, x[1], {}, {.padding = 1});
         return first + square(y);
       }},
      {"conv2d, 1x1, of what has another use",
       {{{2, 7, 9, 8}}, {{8, 1, 1, 8}, kParameter}},
       [](const Inputs& x) {
         const Tensor y = affine(x[0], 0.5);
         const Tensor first = conv2d(y, x[1]);
         return first + square(y);
       }},
      {"conv2d, groups, of what has another use",
       {{{2, 7, 9, 6}}, {{6, 3, 3, 3}, kParameter}},
       [](const Inputs& x) {
         const Tensor y = affine(x[0], 0.5);
         const Tensor first = conv2d(y, x[1], {}, {.padding = 1, .groups = 2});
         return first + square(y);
       }},
      {"avg_pool2d of what has another use",
       {{{2, 9, 7, 8}}},
       [](const Inputs& x) {
         const Tensor y = affine(x[0], 0.5);
         const Tensor first = avg_pool2d(y, {.kernel = 3, .stride = 1, .padding = 1});
         return first + square(y);
       }},
      {"linear",
       {{{3, 7, 13}}, {{5, 13}, kParameter}, {{5}, kParameter}},
       [](const Inputs& x) { return linear(x[0], x[1], x[2]); }},
      {"conv2d",
       {{{2, 7, 9, 8}}, {{16, 3, 3, 8}, kParameter}},
       [](const Inputs& x) { return conv2d(x[0], x[1], {}, {.padding = 1}); }},
      {"conv2d, odd, stride, bias",
       {{{3, 9, 7, 3}}, {{5, 3, 3, 3}, kParameter}, {{5}, kParameter}},
       [](const Inputs& x) { return conv2d(x[0], x[1], x[2], {.stride = 2, .padding = 1}); }},
      {"conv2d, groups, dilation",
       {{{1, 9, 9, 6}}, {{8, 3, 3, 3}, kParameter}},
       [](const Inputs& x) { return conv2d(x[0], x[1], {}, {.padding = 2, .dilation = 2, .groups = 2}); }},
      {"max_pool2d",
       {{{2, 9, 7, 8}}},
       [](const Inputs& x) { return max_pool2d(x[0], {.kernel = 3, .stride = 2, .padding = 1}); }},
      {"avg_pool2d",
       {{{2, 9, 7, 5}}},
       [](const Inputs& x) { return avg_pool2d(x[0], {.kernel = 2, .ceil_mode = true}); },
       0,
       1},
      {"global_avg_pool", {{{2, 5, 6, 7}}}, [](const Inputs& x) { return global_avg_pool(x[0]); }, 0, 1},
      {"softmax", {{{5, 11}}}, [](const Inputs& x) { return softmax(x[0]); }, -3, 3, 3},
      {"log_softmax", {{{5, 11}}}, [](const Inputs& x) { return log_softmax(x[0]); }, -3, 3},
      {"cross entropy",
       {{{6, 10}}},
       [](const Inputs& x) {
         return cross_entropy(x[0], Tensor::from<int64_t>({3, 0, 9, 4, 4, 1}, {6}).to(x[0].device()),
                              {.label_smoothing = 0.1});
       },
       -3,
       3},
      {"mse_loss", {{{6, 10}}, {{6, 10}}}, [](const Inputs& x) { return mse_loss(x[0], x[1]); }},
      {"dropout",
       {{{9, 10}}},
       [](const Inputs& x) {
         Generator same(7);
         return dropout(x[0], 0.4, true, same);
       }},
      {"checkpoint of mish of conv2d",
       {{{2, 5, 5, 4}}, {{4, 3, 3, 4}, kParameter}},
       [](const Inputs& x) {
         return checkpoint(
             [w = x[1]](const Inputs& in) { return mish(conv2d(in[0], w, {}, {.padding = 1})); }, {x[0]});
       }},
  };
  return list;
}

/// Batch norm with what it needs besides: statistics in its own f32 vectors.
std::vector<Case> norm_cases() {
  std::vector<Case> list;
  for (const bool training : {true, false})
    for (const Activation act : {Activation::identity, Activation::mish, Activation::tanhexp})
      for (const bool residual : {false, true})
        for (const int64_t channels : {32, 8, 5}) {  // in one pass in 16 bits, wide, narrow
          Case c{"batch_norm", {{{4, 3, 5, channels}}, {{channels}, true}, {{channels}, true}}, {}};
          if (residual) c.inputs.push_back({{4, 3, 5, channels}});
          c.f = [=](const Inputs& x) {
            const DType wide = x[1].dtype();
            const Tensor mean = Tensor::zeros({channels}, wide, x[0].device()),
                         var = Tensor::full({channels}, 0.7, wide, x[0].device());
            return batch_norm(x[0], x[1], x[2], mean, var, training, {.activation = act},
                              residual ? x[3] : Tensor());
          };
          list.push_back(c);
        }
  for (const Activation act : {Activation::identity, Activation::mish, Activation::tanhexp, Activation::relu})
    for (const int64_t channels : {16, 5}) {
      const Input x{{4, 3, 5, channels}}, vector{{channels}, true};
      list.push_back({"batch_norm_pair", {x, vector, vector, x, vector, vector}, [=](const Inputs& in) {
                        const DType wide = in[1].dtype();
                        const Tensor mean = Tensor::zeros({channels}, wide, in[0].device()),
                                     var = Tensor::ones({channels}, wide, in[0].device());
                        return batch_norm_pair({in[0], in[1], in[2], mean.clone(), var.clone()},
                                               {in[3], in[4], in[5], mean, var}, {.activation = act});
                      }});
    }
  return list;
}

/// The case on the GPU in `dtype` and on the CPU in f64: values and gradients.
void compare(const Case& c, DType dtype, double tolerance) {
  CAPTURE(std::string(c.name));
  CAPTURE(std::string(name_of(dtype)));
  Generator generator(seed());
  Inputs here, there;
  for (const Input& in : c.inputs) {
    const Tensor x =
        Tensor::uniform(in.shape, c.low, c.high, generator).to(in.parameter ? DType::f32 : dtype);
    here.push_back(x.to(DType::f64).set_requires_grad());
    there.push_back(x.to(Device::cuda).set_requires_grad());
  }
  Tape tape;
  const Tensor got = c.f(there);
  REQUIRE(got.device() == Device::cuda);
  const Tensor g = Tensor::uniform(got.shape(), 0.5, 1, generator).to(got.dtype()), value = got.detach();
  tape.backward(got, g.to(Device::cuda));
  Tape reference;
  const Tensor want = c.f(here);
  CHECK(distance(value, want.detach()) < tolerance);
  reference.backward(want, g.to(DType::f64));
  for (size_t i = 0; i < here.size(); ++i) {
    CAPTURE(i);
    REQUIRE(there[i].grad().defined());
    CHECK(there[i].grad().dtype() == there[i].dtype());
    CHECK(distance(there[i].grad(), here[i].grad()) < tolerance * c.cancels);
  }
}

}  // namespace

TEST_CASE("ops and their gradients, f32") {
  const test::ExactFloat exact;
  for (const Case& c : cases()) compare(c, DType::f32, 1e-5);
  for (const Case& c : norm_cases()) compare(c, DType::f32, 1e-5);
}

TEST_CASE("ops and their gradients, f32 with TF32 allowed") {
  for (const Case& c : cases()) compare(c, DType::f32, 1e-3);
}

TEST_CASE("ops and their gradients, bf16") {
  for (const Case& c : cases()) compare(c, DType::bf16, 1e-2);
  for (const Case& c : norm_cases()) compare(c, DType::bf16, 1e-2);
}

TEST_CASE("ops and their gradients, f16") {
  for (const Case& c : cases()) compare(c, DType::f16, 1e-2);
  for (const Case& c : norm_cases()) compare(c, DType::f16, 1e-2);
}

TEST_CASE("a block adds and activates in one op where nobody looks at the activation") {
  Sequential net;
  auto& block = net.emplace<ResBlock>("block", 8, 8, ResBlockOptions{.self_attention = true});
  block.bn2->weight.fill(1);
  net.to(Device::cuda);
  Generator generator(5);
  const Tensor x = Tensor::uniform({2, 5, 7, 8}, -1, 1, generator).to(Device::cuda).set_requires_grad();
  const auto run = [&](const char* op) {
    Tape tape;
    const Tensor y = net(x);
    CHECK(tape.entries().back().op == op);
    CHECK(tape.entries().back().scope == "block.act");
    const Tensor value = y.detach();
    tape.backward(y, value);
    const Tensor dx = x.grad();
    x.zero_grad();
    return std::pair{value, dx};
  };
  const auto [y, dx] = run("add_activation");
  int calls = 0;
  const RemovableHandle hook = block.act->register_forward_hook(
      [&](Module&, const Tensor&, const Tensor&) { return ++calls, Tensor(); });
  const auto [watched, watched_dx] = run("mish");
  CHECK(calls == 1);
  CHECK(distance(y, watched.to(Device::cpu)) < 1e-6);
  CHECK(distance(dx, watched_dx.to(Device::cpu)) < 1e-6);
  ResBlock learned(net, "learned", 8, 8, {.activation = Activation::prelu, .self_attention = true});
  learned.to(Device::cuda);
  Tape tape;
  learned(x);
  for (const TapeEntry& e : tape.entries()) CHECK(e.op != "add_activation");
}

TEST_CASE("a stage hands the next one its output's halves where nobody looks in between") {
  manual_seed(3);
  XResNet net(18, {.self_attention = true, .classes = 3});
  net.to(Device::cuda);
  const Tensor x = Tensor::uniform({2, 61, 64, 3}, -1, 1).to(Device::cuda),
               labels = Tensor::from<int64_t>({0, 2}, {2}).to(Device::cuda);
  const auto run = [&](const std::vector<std::string>& expected) {
    Tape tape;
    const Tensor loss = cross_entropy(net(x), labels);
    std::vector<std::string> pools;
    for (const TapeEntry& e : tape.entries())
      if (e.op.find("avg_pool") != e.op.npos || e.op == "add_activation_pool")
        pools.push_back(std::string(e.op) + " " + std::string(e.scope));
    CHECK(pools == expected);
    tape.backward(loss);
    std::vector<Tensor> gradients{loss.detach()};
    for (const Parameter& p : net.parameters()) gradients.push_back(p.tensor.grad().clone());
    net.zero_grad();
    return gradients;
  };
  const auto fused = run({"add_activation_pool stages.0.1.act", "batch_norm_avg_pool stages.1.1.bn2",
                          "batch_norm_avg_pool stages.2.1.bn2"});
  auto& block = dynamic_cast<Sequential&>(net.stages[1])[0];
  const RemovableHandle hook =
      block.register_forward_hook([](Module&, const Tensor&, const Tensor&) { return Tensor(); });
  const auto apart =
      run({"avg_pool2d stages.1.0.pool", "avg_pool2d stages.2.0.pool", "avg_pool2d stages.3.0.pool"});
  for (size_t i = 0; i < fused.size(); ++i) CHECK(distance(fused[i], apart[i].to(Device::cpu)) < 1e-3);
}

TEST_CASE("batch norm with the average behind it, and the derivatives of both") {
  const test::ExactFloat exact;
  for (const bool odd : {false, true})
    for (const Activation act : {Activation::identity, Activation::mish, Activation::gelu}) {
      CAPTURE(odd);
      CAPTURE(activation_name(act));
      Generator generator(7);
      const Shape shape{3, odd ? 5 : 6, 4, 16};
      const Tensor values = Tensor::uniform(shape, -2, 2, generator),
                   side = Tensor::uniform(shape, -1, 1, generator),
                   weight = Tensor::uniform({16}, 0.5, 1.5, generator),
                   bias = Tensor::uniform({16}, -1, 1, generator);
      const BatchNormOptions options{.activation = act};
      // In both orders of differentiation: sums of squares, of the outputs and of the gradients.
      const auto run = [&](Device device, bool fused) {
        std::vector<Tensor> in;
        for (const Tensor& t : {values, weight, bias, side}) in.push_back(t.to(device));
        for (Tensor& t : in) t.set_requires_grad(true);
        const Tensor mean = Tensor::zeros({16}).to(device), var = Tensor::ones({16}).to(device);
        Tape tape;
        std::pair<Tensor, Tensor> out;
        if (fused) {
          out = batch_norm_avg_pool({in[0], in[1], in[2], mean, var, {}}, in[3], options);
          CHECK(tape.entries().back().op ==
                (odd || act == Activation::gelu ? "avg_pool2d" : "batch_norm_avg_pool"));
        } else {
          out.first = batch_norm(in[0], in[1], in[2], mean, var, true, options, in[3]);
          out.second = avg_pool2d(out.first, kHalves);
        }
        std::vector<Tensor> found{out.first.detach(), out.second.detach(), mean, var};
        const Tensor loss = sum(square(out.first)) + sum(square(out.second)) * 3.0;
        std::vector<Tensor> first = tape.grad(loss, in, {.create_graph = true});
        Tensor slope = sum(square(first[0]));
        for (size_t i = 1; i < first.size(); ++i) slope = slope + sum(square(first[i]));
        for (const Tensor& g : first) found.push_back(g.detach());
        for (const Tensor& g : tape.grad(slope, in)) found.push_back(g);
        return found;
      };
      const auto expected = run(Device::cpu, false), found = run(Device::cuda, true);
      for (size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i);
        CHECK(distance(found[i], expected[i]) < 1e-4);
      }
    }
}

TEST_CASE("attention, and gradients that add up over tapes and uses") {
  const test::ExactFloat exact;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    manual_seed(3);
    XResNet here(18, {.self_attention = true, .classes = 3}),
        there(18, {.self_attention = true, .classes = 3});
    there.load_state_dict(here.state_dict());
    for (Module* m : {static_cast<Module*>(&here), static_cast<Module*>(&there)})
      for (const Parameter& p : m->parameters())
        if (p.name.find("gamma") != std::string::npos) p.tensor.fill(0.3);
    there.to(Device::cuda);
    Generator generator(5);  // some pictures give bf16 a batch norm of hardly any variance
    const Tensor x = Tensor::uniform({4, 32, 32, 3}, -1, 1, generator).to(dtype);
    std::optional<WeightCopies> copies;
    if (is_half(dtype)) copies.emplace(there, dtype);
    for (int turn = 0; turn < 2; ++turn) {
      Tape tape;
      tape.backward(sum(here(x.to(DType::f32))));
      std::optional<WeightCopies::Use> use;
      if (copies && turn == 1) use.emplace(*copies);
      Tape gpu;
      gpu.backward(sum(cast(there(x.to(Device::cuda)), DType::f32)));
    }
    const auto a = here.parameters(), b = there.parameters();
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      CHECK(b[i].tensor.grad().dtype() == DType::f32);
      const double n = std::sqrt(sum(square(a[i].tensor.grad())).item());
      difference += std::pow(distance(b[i].tensor.grad(), a[i].tensor.grad()) * n, 2), norm += n * n;
    }
    // A whole network in 16 bits: errors of its layers add up, and batch norm over sixteen pixels magnifies
    // them.
    CAPTURE(std::sqrt(difference / norm));
    CHECK(std::sqrt(difference / norm) < (dtype == DType::f32 ? 1e-3 : 0.4));
  }
}

TEST_CASE("tensors move, convert and show") {
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3}), y = x.to(Device::cuda);
  CHECK(y.device() == Device::cuda);
  CHECK(y.to(Device::cuda).is(y));
  CHECK(y.at(4) == 5);
  CHECK(y.to(DType::bf16).to(DType::i64).to_vector<int64_t>() == std::vector<int64_t>{1, 2, 3, 4, 5, 6});
  CHECK(y.clone().to_vector<float>() == x.to_vector<float>());
  CHECK(y.to_string(2) == "f32 [2, 3] on cuda {1, 2, ...}");
  y.fill(7);
  CHECK(y.to(Device::cpu).to_vector<float>() == std::vector<float>(6, 7.0f));
  CHECK(argmax(x.to(Device::cuda)).to_vector<int64_t>() == std::vector<int64_t>{2, 2});
  const Tensor empty = Tensor::zeros({0, 3}, DType::f32, Device::cuda);
  CHECK((empty + empty).to_vector<float>().empty());
}

TEST_CASE("parts of a tensor that overlap are copied") {
  std::vector<float> values(1000);
  std::iota(values.begin(), values.end(), 0.0f);
  const Tensor x = Tensor::from<float>(values, {1000}).to(Device::cuda);
  x.part(1, {999}).copy_from(x.part(0, {999}));
  std::copy_backward(values.begin(), values.end() - 1, values.end());
  CHECK(x.to_vector<float>() == values);
  x.part(0, {600}).copy_from(x.part(300, {600}));
  std::copy(values.begin() + 300, values.begin() + 900, values.begin());
  CHECK(x.to_vector<float>() == values);
}

TEST_CASE("what can't be done on a GPU is an error") {
  const Tensor here = Tensor::ones({2}), there = here.to(Device::cuda);
  CHECK_ERROR(here + there, "on cpu and f32 [2] on cuda");
  CHECK_ERROR(exp(Tensor::ones({2}, DType::f64, Device::cuda)), "f64 has no arithmetic on a GPU");
  CHECK_ERROR(there.to(DType::f64), "f64");
  CHECK_ERROR(batch_norm(Tensor::ones({4, 2}, DType::f32, Device::cuda), here, here, here, here, true),
              "on cpu");
  CHECK_ERROR(parse_device("cuda:99"), "no GPU of that number");
  CHECK_ERROR(parse_device("cuda:x"), "unknown");
  // The label is not looked at before the kernel.
  const Tensor logits = Tensor::ones({2, 3}, DType::f32, Device::cuda);
  CHECK(std::isnan(cross_entropy(logits, Tensor::from<int64_t>({0, 3}, {2}).to(Device::cuda)).item()));
  CHECK(std::isfinite(cross_entropy(logits, Tensor::from<int64_t>({0, 2}, {2}).to(Device::cuda)).item()));
}

TEST_CASE("a checkpoint adds to a gradient that is under way beside") {
#if WEFT_EMULATED
  const weft_emulator::Deferred deferred;
#endif
  Generator generator(3);
  const Tensor x = Tensor::uniform({2, 5, 5, 8}, -1, 1, generator).to(Device::cuda),
               w = Tensor::uniform({8, 3, 3, 8}, -1, 1, generator).to(Device::cuda).set_requires_grad();
  const auto gradient = [&](bool again) {
    const auto f = [&](const Tensor& in) { return conv2d(in, w, {}, {.padding = 1}); };
    Tape tape;
    tape.backward(sum(f(again ? checkpoint(f, x) : f(x))));
    const Tensor grad = w.grad().to(Device::cpu);
    w.zero_grad();
    return grad;
  };
  CHECK(distance(gradient(true), gradient(false)) < (WEFT_EMULATED ? 1e-6 : 1e-2));
}

TEST_CASE("memory that can't be had is an error, and the engine goes on") {
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 44}, DType::f32, Device::cuda), OutOfMemoryError);
  CHECK(Tensor::ones({4}, DType::f32, Device::cuda).at(3) == 1);
  empty_cache(Device::cuda);
  const size_t before = memory_stats(Device::cuda).in_use;
  {
    const Tensor t = Tensor::empty({1 << 20}, DType::f32, Device::cuda);
    CHECK(memory_stats(Device::cuda).in_use == before + (4 << 20));
  }
  CHECK(memory_stats(Device::cuda).in_use == before);
}

TEST_CASE("a captured step gives the bits of the eager one, and its memory stays its own") {
  const test::SameBits same_bits;
  const auto train = [](bool captured) {
    manual_seed(5);
    const auto net = make_model("resnet20", {.classes = 4});
    net->to(Device::cuda);
    optim::Ranger optimizer(net->parameters(), {.lr = 1e-2});
    Generator generator(1);
    const Tensor x = Tensor::uniform({4, 16, 16, 3}, -1, 1, generator).to(Device::cuda),
                 labels = Tensor::from<int64_t>({0, 1, 2, 3}, {4}).to(Device::cuda);
    const MemoryPool pool(Device::cuda);
    const auto step = [&] {
      Tape tape;
      tape.backward(cross_entropy((*net)(x), labels));
      optimizer.step();
      optimizer.zero_grad();
    };
    std::unique_ptr<kernels::cuda::Graph> graph;
    for (int i = 0; i < (test::light() ? 4 : 8); ++i) {
      optimizer.set_lr(0, 1e-2 / (1 + i));
      {
        const MemoryPool::Use use(pool);
        if (!captured || i < 2) {
          step();
        } else {
          if (!graph) graph = kernels::cuda::capture(step);
          graph->launch();
        }
      }
      // Others' memory between the steps must not be the graph's.
      const Tensor other = Tensor::full({1 << 16}, 1e30, DType::f32, Device::cuda);
      CHECK(other.at(77) == doctest::Approx(1e30));
    }
    if (graph) CHECK(graph->nodes() > 100);
    std::vector<float> all;
    for (const Parameter& p : net->parameters())
      for (float v : p.tensor.to_vector<float>()) all.push_back(v);
    return all;
  };
  const auto eager = train(false);
  CHECK(eager == train(false));
  CHECK(eager == train(true));
}

TEST_CASE("captured steps draw what eager ones draw, and draw it once where they compute it twice") {
  const auto run = [](bool captured, bool twice) {
    Generator values(3), draws(7);
    const Tensor x = Tensor::normal({40, 9}, 0, 1, values).to(Device::cuda).set_requires_grad();
    const Tensor y = Tensor::zeros(x.shape()).to(Device::cuda),
                 dx = Tensor::zeros(x.shape()).to(Device::cuda);
    const std::function<Tensor(const Tensor&)> f = [&](const Tensor& in) {
      return rrelu(dropout(in, 0.4, true, draws), 0.1, 0.4, true, draws);
    };
    const MemoryPool pool(Device::cuda);
    const auto step = [&] {
      Tape tape;
      const Tensor out = twice ? checkpoint(f, x) : f(x);
      y.copy_from(out);
      tape.backward(out, Tensor::ones(x.shape(), DType::f32, Device::cuda));
      dx.copy_from(x.grad());
      x.zero_grad();
    };
    std::unique_ptr<kernels::cuda::Graph> graph;
    std::vector<std::vector<float>> results;
    for (int i = 0; i < 5; ++i) {
      const MemoryPool::Use use(pool);
      if (!captured || i < 2) {
        step();
      } else {
        if (!graph) graph = kernels::cuda::capture(step);
        graph->launch();
      }
      results.push_back(y.to_vector<float>());
      results.push_back(dx.to_vector<float>());
    }
    CHECK(draws.count() == 10);
    return results;
  };
  const auto eager = run(false, false);
  CHECK(eager[6] != eager[8]);
  CHECK(eager[7] != eager[9]);
  for (const bool twice : {false, true}) CHECK(run(true, twice) == eager);
}

TEST_CASE("a mean in f16 whose sum f16 can't hold") {
  const Tensor x = Tensor::full({1, 64, 64, 8}, 100).to(Device::cuda).to(DType::f16).set_requires_grad();
  Tape tape;
  const Tensor y = global_avg_pool(x);
  CHECK(y.dtype() == DType::f16);
  CHECK(y.to(DType::f32).at(3) == 100);
  tape.backward(sum(cast(y, DType::f32)));
  CHECK(x.grad().to(DType::f32).at(77) == 1.0f / 4096);
}

TEST_CASE("a weight that is a view of a parameter, where copies of parameters are at hand") {
  struct Heads : Module {
    Tensor weight = register_parameter("weight", Tensor::normal({2, 3, 8}, 0, 1));
    Tensor forward(const Tensor& x) override { return linear(x, reshape(weight, {6, 8})); }
  };
  Heads net;
  net.to(Device::cuda);
  const Tensor x = Tensor::normal({5, 8}, 0, 1).to(Device::cuda).to(DType::bf16);
  const WeightCopies copies(net, DType::bf16);
  const Tensor plain = net(x);
  const WeightCopies::Use use(copies);
  CHECK(net(x).to(DType::f32).to_vector<float>() == plain.to(DType::f32).to_vector<float>());
}

TEST_CASE("what can't be captured is an error, and the engine goes on") {
  const Tensor x = Tensor::ones({8}, DType::f32, Device::cuda);
  CHECK_THROWS_WITH_AS(kernels::cuda::capture([&] { Tensor::ones({8}).to(Device::cuda); }),
                       doctest::Contains("captured step"), std::runtime_error);
  CHECK_THROWS_WITH_AS(kernels::cuda::capture([&] { (x + x).to(Device::cpu); }),
                       doctest::Contains("a captured step can't wait for the GPU"), Error);
  CHECK_FALSE(kernels::cuda::capturing());
  CHECK((x + x).at(3) == 2);
  const auto graph = kernels::cuda::capture([&] { x.copy_from(x + x); });
  CHECK(x.at(0) == 1);
  graph->launch();
  graph->launch();
  CHECK(x.at(0) == 4);
}

#if WEFT_EMULATED
TEST_CASE("the second gradient of a tensor is added by the kernel that makes it") {
  const auto on_gpu = [](const Shape& shape) {
    return Tensor::ones(shape, DType::f32, Device::cuda).set_requires_grad();
  };
  using Two = std::function<Tensor(const Tensor&, const Tensor&)>;
  // Kernels of a step in which f has two uses of one tensor, or one use of each of two.
  const auto nodes = [&](const Two& f, const Shape& shape, bool one) {
    const Tensor a = on_gpu(shape), b = on_gpu(shape);
    const MemoryPool pool(Device::cuda);
    const MemoryPool::Use use(pool);
    const auto step = [&] {
      a.zero_grad();
      b.zero_grad();
      Tape tape;
      const Tensor y = affine(a, 0.5), z = affine(b, 0.5), out = f(y, one ? y : z);
      tape.backward(out, out.detach());
    };
    step();
    return kernels::cuda::capture(step)->nodes();
  };
  const Tensor w = Tensor::ones({8, 1, 1, 8}, DType::f32, Device::cuda);
  const auto conv = [&](const Tensor& y, const Tensor& z) {
    const Tensor first = conv2d(y, w);
    return first + square(z);
  };
  const auto pool = [&](const Tensor& y, const Tensor& z) {
    const Tensor first = avg_pool2d(y, {.kernel = 3, .stride = 1, .padding = 1});
    return first + square(z);
  };
  const auto product = [&](const Tensor& y, const Tensor& z) {
    const Tensor first = bmm(y, z);  // with z transposed, and y alone, it would be one product
    return first + square(z);
  };
  const auto sum_of_product = [&](const Tensor& y, const Tensor& z) { return baddbmm(y, z, y); };
  const Shape images{2, 4, 4, 8}, matrices{2, 8, 8};
  // The backward of one affine less, and no more.
  CHECK(nodes(conv, images, true) == nodes(conv, images, false) - 1);
  CHECK(nodes(pool, images, true) == nodes(pool, images, false) - 1);
  CHECK(nodes(product, matrices, true) == nodes(product, matrices, false) - 1);
  CHECK(nodes(sum_of_product, matrices, true) == nodes(sum_of_product, matrices, false) - 1);
}

TEST_CASE("a captured step neither waits nor copies to the CPU, and uploads little") {
  manual_seed(5);
  XResNet net(18, {.self_attention = true, .classes = 4});
  net.to(Device::cuda);
  optim::Ranger optimizer(net.parameters(), {.lr = 1e-2});
  const Tensor x = Tensor::uniform({4, 16, 16, 3}, -1, 1).to(Device::cuda).to(DType::bf16),
               labels = Tensor::from<int64_t>({0, 1, 2, 3}, {4}).to(Device::cuda);
  const MemoryPool pool(Device::cuda);
  const auto step = [&] {
    Tape tape;
    tape.backward(cross_entropy(net(x), labels));
    optimizer.step();
    optimizer.zero_grad();
  };
  const MemoryPool::Use use(pool);
  step();
  step();
  weft_emulator::reset_stats();
  step();  // the eager step does not wait either
  CHECK(weft_emulator::stats().host_syncs == 0);
  CHECK(weft_emulator::stats().copies_to_host == 0);
  CHECK(weft_emulator::stats().mallocs == 0);
  const auto graph = kernels::cuda::capture(step);
  graph->launch();
  weft_emulator::reset_stats();
  graph->launch();
  CHECK(weft_emulator::stats().host_syncs == 0);
  CHECK(weft_emulator::stats().copies_to_host == 0);
  CHECK(weft_emulator::stats().mallocs == 0);
  CHECK(weft_emulator::stats().pageable_copies == 0);
  CHECK(weft_emulator::stats().bytes_to_device < 100'000);
  MESSAGE("nodes of a step: ", graph->nodes());
}

TEST_CASE("without a device everything says so") {
  weft_emulator::set_device_count(0);
  std::string why;
  CHECK(kernels::cuda::device_count(&why) == 0);
  CHECK(why.find("driver") != std::string::npos);
  CHECK_ERROR(parse_device("cuda"), "can't be used");
  weft_emulator::set_device_count(1);
  CHECK(parse_device("cuda") == Device::cuda);
}
#endif
