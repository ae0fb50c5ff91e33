// DetectAnomaly: the first NaN or infinity is named.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "support/errors.h"
#include "weft/weft.h"

using namespace weft;

namespace {

struct Net : Module {
  Conv2d conv{*this, "conv", 2, 3, {.kernel = 3, .padding = 1}};
  BatchNorm2d bn{*this, "bn", 3, {.activation = Activation::mish}};
  Linear head{*this, "head", 3, 2};
  Tensor forward(const Tensor& x) override { return head(global_avg_pool(bn(conv(x)))); }
};

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("the first bad result names op, layer, step, sample and inputs") {
  Net net;
  Tensor x = Tensor::ones({5, 4, 3, 2});
  x.data<float>()[3 * 24 + 7] = kNaN;
  CHECK(std::isnan(net(x).at(0)));  // nobody notices
  DetectAnomaly tracing({.step = 12});
  for (const bool with_tape : {true, false}) {
    CAPTURE(with_tape);
    std::unique_ptr<Tape> tape;
    if (with_tape) tape = std::make_unique<Tape>();
    const std::string message = error_of([&] { net(x); });
    CHECK(mentions(message,
                   "detect_anomaly: step 12: forward of conv2d in conv: output 0 f32 [5, 4, 3, 3] has"));
    CHECK(mentions(message, ", sample 3; input 0 f32 [5, 4, 3, 2] has"));
    CHECK(mentions(message, "at [3, 1, 0, 1]; input 1 f32 [3, 3, 3, 2] finite; input 2 f32 [3] finite"));
  }
  // A parameter that has gone wrong.
  net.head.weight.data<float>()[4] = std::numeric_limits<float>::infinity();
  const DetectAnomaly later({.step = 13});
  CHECK_ERROR(net(Tensor::ones({5, 4, 3, 2})), "step 13: forward of linear in head: output 0 f32 [5, 2] has");
}

TEST_CASE("the first bad gradient names the op whose backward made it") {
  const Tensor x = Tensor::from({4.F, 0.F, 1.F}, {3}).set_requires_grad();
  DetectAnomaly tracing;
  Tape tape;
  Tensor loss;
  {
    const ScopeName scope("tail");
    loss = sum(sqrt(x) * 2.0);  // a slope of 1 / 0
  }
  CHECK_ERROR(
      tape.backward(loss),
      "detect_anomaly: backward of sqrt in tail: gradient of input 0 f32 [3] has inf at [1], sample 1; "
      "gradient of output 0 f32 [3] finite");
}

TEST_CASE("a gradient is the backward's, though ops that could be recorded made it") {
  const Tensor large = Tensor::full({2}, 1e30).set_requires_grad(),
               small = Tensor::full({2}, 1e-30).set_requires_grad();
  DetectAnomaly tracing;
  Tape tape;
  Tensor loss;
  {
    const ScopeName scope("tail");
    loss = sum(large * small) * 1e30;
  }
  CHECK_ERROR(
      tape.backward(loss),
      "detect_anomaly: backward of mul in tail: gradient of input 1 f32 [2] has inf at [0], sample 0; "
      "gradient of output 0 f32 [2] finite");
}

TEST_CASE("NaN alone, integers, every type, and nesting") {
  const Tensor zero = Tensor::zeros({2});
  {
    const DetectAnomaly tracing({.infinity = false});
    CHECK(std::isinf(log(zero).at(0)));
    CHECK_ERROR(zero / zero, "forward of div");
    {
      const DetectAnomaly inner;
      CHECK_ERROR(log(zero),
                  "forward of log: output 0 f32 [2] has -inf at [0], sample 0; input 0 f32 [2] finite");
    }
    CHECK(std::isinf(log(zero).at(0)));
  }
  const DetectAnomaly tracing;
  CHECK_ERROR(log(Tensor::zeros({2}, DType::f64)), "f64 [2] has -inf");
  CHECK_ERROR(cast(Tensor::full({}, 1e6), DType::f16), "forward of cast: output 0 f16 [] has inf at []");
  CHECK_ERROR(reciprocal(Tensor::zeros({})), "has inf at []; input 0");  // no dimension, no sample
  // Deep in a long tensor, behind values that are large but finite.
  Tensor x = Tensor::full({3, 1000}, std::numeric_limits<float>::max());
  x.data<float>()[2345] = kNaN;
  CHECK_ERROR(relu(x), "at [2, 345], sample 2");
}

TEST_CASE("they may end in any order") {
  auto a = std::make_unique<DetectAnomaly>(), b = std::make_unique<DetectAnomaly>();
  a.reset();
  CHECK(DetectAnomaly::current() == b.get());
  {
    const DetectAnomaly::Pause pause;
    b.reset();
    CHECK(DetectAnomaly::current() == nullptr);
  }
  CHECK(DetectAnomaly::current() == nullptr);
}

TEST_CASE("what an attention mask leaves out is no anomaly") {
  const Tensor mask = Tensor::from<uint8_t>({0, 1, 0, 0}, {2, 2}),
               keys = Tensor::from<uint8_t>({0, 1}, {1, 2});
  const DetectAnomaly tracing;
  Tensor x = Tensor::ones({1, 2, 2});
  CHECK(masked_softmax(x, {.attn_mask = mask}).at(0) == 1);
  CHECK(masked_softmax(x, {.key_padding_mask = keys}).at(2) == 1);
  x.data<float>()[3] = kNaN;
  CHECK_ERROR(masked_softmax(x, {.attn_mask = mask}),
              "forward of masked_softmax: output 0 f32 [1, 2, 2] has");
}

TEST_CASE("with a checkpoint, and with create_graph") {
  Net net;
  net.recompute();
  net.bn.weight.fill(1e30);
  const Tensor x = Tensor::normal({3, 4, 3, 2});
  const DetectAnomaly tracing({.step = 1});
  Tape tape;
  CHECK_ERROR(sum(square(net(x))), "forward of square");
  const Tensor t = Tensor::from({0.F, 1.F}, {2}).set_requires_grad();
  Tape second;
  const Tensor y = sum(sqrt(t));
  CHECK_ERROR(second.grad(y, {t}, {.create_graph = true}), "forward of div: output 0");
}
