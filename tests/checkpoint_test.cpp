// Activation recomputation: the same bits as the plain computation, with less memory.
#include <doctest/doctest.h>

#include <functional>

#include "support/errors.h"
#include "support/light.h"
#include "weft/weft.h"

using namespace weft;

namespace {

using Bits = std::vector<std::vector<float>>;

/// Two convolutions with dropout, batch norm and a residual: everything that must not happen twice.
struct Block : Module {
  using Module::Module;
  Conv2d conv1{*this, "conv1", 6, 6, {.padding = 1}};
  BatchNorm2d bn1{*this, "bn1", 6, {.activation = Activation::mish}};
  Dropout dropout{*this, "dropout", 0.3};
  SimpleSelfAttention attention{*this, "attention", 6};
  Tensor forward(const Tensor& x) override { return attention(dropout(bn1(conv1(x)))) + x; }
};

struct Net : Module {
  explicit Net(bool recompute) {
    for (int i = 0; i < 3; ++i) blocks.emplace<Block>(std::to_string(i)).recompute(recompute);
    for (int i = 0; i < 3; ++i) static_cast<Block&>(blocks[size_t(i)]).attention.gamma.fill(0.5);
  }
  Sequential blocks{*this, "blocks"};
  Tensor forward(const Tensor& x) override { return mean(blocks(x), {1, 2}); }
};

/// Everything that some steps of training leave: losses, gradients, weights, buffers, the generator's state.
template <class Model>
Bits train(const std::function<std::unique_ptr<Model>()>& make, const Tensor& x, int steps) {
  manual_seed(7);
  const auto model = make();
  const int64_t classes = model->forward(x).size(1);
  Tensor labels = Tensor::empty({x.size(0)}, DType::i64);
  for (int64_t i = 0; i < x.size(0); ++i) labels.data<int64_t>()[i] = i % classes;
  optim::Ranger optimizer(model->parameters(), {.lr = 1e-2, .k = 2});
  Bits bits;
  for (int s = 0; s < steps; ++s) {
    Tape tape;
    const Tensor loss = cross_entropy((*model)(x), labels);
    tape.backward(loss);
    bits.push_back(loss.to_vector<float>());
    for (const Parameter& p : model->parameters()) {
      REQUIRE_MESSAGE(p.tensor.grad().defined(), p.name);
      bits.push_back(p.tensor.grad().template to_vector<float>());
    }
    optimizer.step();
    optimizer.zero_grad();
  }
  for (const auto& [name, tensor] : model->state_dict()) bits.push_back(tensor.template to_vector<float>());
  bits.push_back({float(default_generator().count())});
  return bits;
}

Tensor images(const Shape& shape) {
  Generator generator(3);
  return Tensor::normal(shape, 0, 1, generator);
}

}  // namespace

TEST_CASE("recomputed training gives the same bits, for any number of threads") {
  const int threads = num_threads();
  const Tensor x = images({5, 9, 7, 6});
  const auto net = [&](bool recompute) {
    return train<Net>([=] { return std::make_unique<Net>(recompute); }, x, 4);
  };
  const Bits plain = net(false);
  for (int n : {1, 2, 7}) {
    set_num_threads(n);
    CAPTURE(n);
    CHECK(net(true) == plain);
  }
  set_num_threads(threads);
}

TEST_CASE("MXResNet18 recomputed gives the same bits, with attention and without") {
  const int threads = num_threads();
  const Tensor x = images({3, 33, 32, 3});
  for (bool attention : {false, true}) {
    if (test::light() && !attention) continue;
    CAPTURE(attention);
    const auto model = [&](bool recompute) {
      return train<Module>(
          [=] { return make_model("mxresnet18", {.self_attention = attention, .recompute = recompute}); }, x,
          3);
    };
    const Bits plain = model(false);
    for (int n : {1, 2, 7}) {
      set_num_threads(n);
      CAPTURE(n);
      CHECK(model(true) == plain);
    }
  }
  set_num_threads(threads);
}

TEST_CASE("recomputation lowers what the forward pass keeps, and the peak of memory") {
  struct Use {
    double kept, peak;
  };
  const auto use = [](const char* name, bool recompute) {
    const auto model = make_model(name, {.recompute = recompute});
    const Tensor x = images({16, 96, 96, 3});
    const size_t before = memory_stats().in_use;
    reset_peak_memory();
    Tape tape;
    const Tensor loss = sum((*model)(x));
    const size_t kept = memory_stats().in_use - before;
    tape.backward(loss);
    return Use{double(kept), double(memory_stats().peak - before)};
  };
  // A basic block keeps one of its four tensors, a bottleneck less, the stem about a third. The peak holds
  // the weights' gradients and one block's tensors besides.
  const Use plain18 = use("mxresnet18", false), again18 = use("mxresnet18", true);
  CHECK(again18.kept < 0.4 * plain18.kept);
  CHECK(again18.peak < 0.8 * plain18.peak);
  if (test::light()) return;
  const Use plain50 = use("mxresnet50", false), again50 = use("mxresnet50", true);
  CHECK(again50.kept < 0.35 * plain50.kept);
  CHECK(again50.peak < 0.7 * plain50.peak);
}

TEST_CASE("gradcheck through checkpoint: several inputs, leaves, nesting") {
  Generator generator(5);
  const auto normal = [&](const Shape& shape) {
    return Tensor::normal(shape, 0, 1, generator, DType::f64).set_requires_grad();
  };
  const Tensor w = normal({4, 3});
  const auto f = [](const std::vector<Tensor>& in) {
    const auto outer = [w = in[2]](const std::vector<Tensor>& in) {
      const Tensor h = linear(in[0], w);
      return checkpoint([](const std::vector<Tensor>& in) { return mish(in[0]) * in[1]; }, {h, in[1]}) + h;
    };
    return checkpoint(outer, {in[0], in[1]});
  };
  const GradcheckResult result = gradcheck(f, {normal({5, 3}), normal({5, 4}), w});
  CHECK_MESSAGE(result.ok, result.message);
}

TEST_CASE("checkpoint: one entry with its scope, leaves among the inputs") {
  Net net(true);
  Tape tape;
  net(images({2, 5, 5, 6}));
  REQUIRE(tape.entries().size() == 4);
  const TapeEntry& e = tape.entries()[1];
  CHECK(e.op == "checkpoint");
  CHECK(e.scope == "blocks.1");
  CHECK(e.inputs.size() == 1 + net.blocks[1].parameters().size());
  CHECK(e.multiply_adds >= 2 * 25 * 6 * 6 * 9);
  CHECK(mentions(tape.to_string(), "blocks.1"));
  CHECK(mentions(tape.to_dot(), "checkpoint"));
}

TEST_CASE("checkpoint adds into gradients that are there, and passes by what needs none") {
  const Tensor a = Tensor::from({2.F}, {1}).set_requires_grad(), c = Tensor::from({3.F}, {1});
  a.set_grad(Tensor::from({10.F}, {1}));
  int runs = 0;
  const auto f = [&](const Tensor& x) { return ++runs, x * a; };
  {
    Tape tape;
    const Tensor y = checkpoint(f, c);
    CHECK(y.requires_grad());
    tape.backward(y + checkpoint(f, a));
    CHECK(a.grad().item() == 10 + 3 + 4);
    CHECK(runs == 4);
  }
  Tape tape;
  CHECK(!checkpoint([](const Tensor& x) { return x * x; }, c).requires_grad());
  // An input that comes back as it is.
  tape.backward(checkpoint([](const Tensor& x) { return x; }, a));
  CHECK(a.grad().item() == 18);
}

TEST_CASE("without a tape checkpoint runs the function once") {
  int runs = 0;
  const Tensor y = checkpoint([&](const Tensor& x) { return ++runs, x * 2.0; }, Tensor::ones({3}));
  CHECK(y.to_vector<float>() == std::vector<float>{2, 2, 2});
  CHECK(runs == 1);
}

TEST_CASE("a module in evaluation is not recomputed") {
  Net net(true);
  net.eval();
  Tape tape;
  net(images({2, 5, 5, 6}));
  for (const TapeEntry& e : tape.entries()) CHECK(e.op != "checkpoint");
}

TEST_CASE("an error in the second run leaves the gradients that were there") {
  const Tensor x = Tensor::ones({2}).set_requires_grad();
  x.set_grad(Tensor::full({2}, 5));
  int runs = 0;
  Tape tape;
  const Tensor y = checkpoint(
      [&](const Tensor& in) {
        check(runs++ == 0, "no second run");
        return in * in;
      },
      x);
  CHECK_ERROR(tape.backward(sum(y)), "no second run");
  REQUIRE(x.grad().defined());
  CHECK(x.grad().at(1) == 5);
}

TEST_CASE("checkpoint: errors") {
  const Tensor a = Tensor::ones({2}).set_requires_grad();
  CHECK_ERROR(checkpoint([](const Tensor&) { return Tensor(); }, a), "returned an undefined tensor");
  Tape tape;
  CHECK_ERROR(checkpoint([](const Tensor&) { return Tensor(); }, a), "returned an undefined tensor");
  CHECK_ERROR(checkpoint([](const Tensor& x) { return x; }, Tensor()), "an input is undefined");
  const Tensor inside = a * 2.0;
  CHECK_ERROR(checkpoint([&](const Tensor& x) { return x * inside; }, a),
              "make it an input of the checkpoint()");
  int runs = 0;
  const Tensor y =
      checkpoint([&](const Tensor& x) { return runs++ == 0 ? x * x : dropout(x, 0.5, true); }, a);
  CHECK_ERROR(tape.backward(sum(y)), "something else when it ran again");
}
