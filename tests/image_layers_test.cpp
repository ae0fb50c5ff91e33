// Blur pooling, squeeze-and-excitation, stochastic depth, separable convolutions, the blocks made of them:
// gradients, shapes, draws, errors. Their values are held against PyTorch in golden_image_model_test.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "support/errors.h"
#include "weft/engine/checkpoint.h"
#include "weft/engine/gradcheck.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/tape.h"
#include "weft/layers/layers.h"

using namespace weft;

namespace {

Generator generator(7);

Tensor normal(const Shape& shape, DType dtype = DType::f64) {
  return Tensor::normal(shape, 0, 1, generator, dtype);
}

/// Checks the gradients of input and parameters of a module, between other ops.
void check_gradients(Module& module, const Shape& shape) {
  module.to(DType::f64);
  std::vector<Tensor> inputs{normal(shape).set_requires_grad()};
  for (const Parameter& p : module.parameters()) {
    if (p.tensor.ndim() == 1)
      p.tensor.copy_from(Tensor::uniform(p.tensor.shape(), 0.5, 1.5, generator, DType::f64));
    inputs.push_back(p.tensor);
  }
  const auto f = [&](const std::vector<Tensor>& in) { return mish(module(in[0] * 1.25) * 0.5); };
  const GradcheckResult result = gradcheck(f, inputs, {.rtol = 1e-5});
  CHECK_MESSAGE(result.ok, module.description(), ": ", result.message);
}

}  // namespace

TEST_CASE("gradients of the layers") {
  Sequential net;
  check_gradients(net.emplace<BlurPool2d>("a"), {2, 5, 6, 3});
  check_gradients(net.emplace<BlurPool2d>("b", BlurPool2dOptions{.filter = 5, .stride = 1}), {1, 4, 3, 2});
  check_gradients(net.emplace<BlurPool2d>("c", BlurPool2dOptions{.filter = 4, .reflect = true}),
                  {2, 5, 6, 3});
  check_gradients(net.emplace<MaxBlurPool2d>("d"), {2, 5, 6, 3});
  check_gradients(net.emplace<MaxBlurPool2d>("pyramid", kPyramidPool), {2, 5, 6, 3});
  check_gradients(
      net.emplace<SqueezeExcitation>("e", 5, 3, SqueezeExcitationOptions{.activation = Activation::mish}),
      {2, 3, 2, 5});
  check_gradients(
      net.emplace<DepthwiseSeparableConv>(
          "f", 3, 4,
          DepthwiseSeparableConvOptions{
              .stride = 2, .multiplier = 2, .norm_between = true, .activation = Activation::mish}),
      {2, 5, 4, 3});
  check_gradients(
      net.emplace<MLP>("g", 6, 3, MLPOptions{.hidden = {4, 5}, .activation = Activation::mish, .norm = true}),
      {4, 2, 3});
}

TEST_CASE("gradients of the blocks") {
  Sequential net;
  const auto block = [&](const char* name, int64_t in, int64_t hidden, const ResBlockOptions& options) {
    auto& made = net.emplace<ResBlock>(name, in, hidden, options, generator);
    if (made.attention) made.attention->eval(), made.attention->gamma.fill(0.2);
    check_gradients(made, {2, 4, 5, in});
  };
  block("trick", 2, 2, {.expansion = 2, .stride = 2, .pool = BlockPool::max_blur, .pool_first = true});
  block("depthwise", 4, 2, {.expansion = 2, .depthwise = 3});
  block("depthwise norm", 4, 2, {.expansion = 2, .depthwise = 3, .depthwise_norm = true});
  block("resnext", 4, 2,
        {.expansion = 2,
         .stride = 2,
         .self_attention = true,
         .pool = BlockPool::max,
         .groups = 2,
         .width = 4,
         .reduction = 2});
  for (CifarShortcut shortcut : {CifarShortcut::A, CifarShortcut::B}) {
    const CifarResNetOptions options{.activation = Activation::mish, .shortcut = shortcut};
    check_gradients(
        net.emplace<CifarBlock>(shortcut == CifarShortcut::A ? "A" : "B", 2, 4, 2, options, generator),
        {2, 4, 5, 2});
  }
}

TEST_CASE("BlurPool2d: means, steps of one pixel and what it keeps") {
  Module root;
  BlurPool2d plain{root, "plain"}, mirrored{root, "mirrored", {.reflect = true}};
  CHECK(plain.parameters().empty());
  CHECK(plain.buffers().empty());
  // A constant image stays what it is, at the edges where they are mirrored only.
  const Tensor ones = Tensor::ones({1, 6, 8, 3});
  const Tensor kept = mirrored(ones), darker = plain(ones);
  CHECK(kept.shape() == Shape{1, 3, 4, 3});
  for (float v : kept.to_vector<float>()) CHECK(v == doctest::Approx(1));
  CHECK(darker.at(0) == doctest::Approx(9.0 / 16));
  CHECK(darker.at((1 * 4 + 1) * 3) == doctest::Approx(1));
  // Other sizes, channels and types after one another.
  CHECK(plain(Tensor::ones({2, 5, 3, 4})).shape() == Shape{2, 3, 2, 4});
  CHECK(mirrored(Tensor::ones({2, 9, 3, 4}, DType::f64)).at(0) == doctest::Approx(1));
  // Inside, both are one.
  const Tensor x = normal({1, 10, 10, 2}, DType::f32), a = plain(x), b = mirrored(x);
  for (int64_t row = 1; row < 5; ++row)
    for (int64_t i = (row * 5 + 1) * 2; i < (row * 5 + 5) * 2; ++i)
      CHECK(a.at(i) == doctest::Approx(b.at(i)));
}

TEST_CASE("StochasticDepth: drops rows or everything, and nothing in evaluation") {
  Generator own(3);
  Module root;
  StochasticDepth rows{root, "rows", 0.25, StochasticDepthMode::row, own};
  const Tensor x = Tensor::ones({4000, 1, 3});
  const Tensor y = rows(x);
  int64_t kept = 0;
  for (int64_t i = 0; i < 4000; ++i) {
    REQUIRE((y.at(3 * i) == 0 || y.at(3 * i) == doctest::Approx(1 / 0.75)));
    for (int64_t j = 1; j < 3; ++j) REQUIRE(y.at(3 * i + j) == y.at(3 * i));
    kept += y.at(3 * i) != 0;
  }
  CHECK(std::abs(double(kept) / 4000 - 0.75) < 0.03);  // four standard deviations
  rows.eval();
  CHECK(rows(x).is(x));

  StochasticDepth batch{root, "batch", 0.5, StochasticDepthMode::batch, own};
  int zeros = 0;
  for (int i = 0; i < 200; ++i) {
    const Tensor all = batch(Tensor::ones({2, 3}));
    for (int64_t j = 1; j < 6; ++j) REQUIRE(all.at(j) == all.at(0));
    zeros += all.at(0) == 0;
  }
  CHECK(zeros > 60);
  CHECK(zeros < 140);
  CHECK(sum(stochastic_depth(x, 1, StochasticDepthMode::row, true, own)).item() == 0);
  CHECK(stochastic_depth(x, 0, StochasticDepthMode::row, true, own).is(x));
}

TEST_CASE("StochasticDepth: gradients, and the same draws where it is computed again") {
  for (StochasticDepthMode mode : {StochasticDepthMode::row, StochasticDepthMode::batch}) {
    const auto f = [&](const std::vector<Tensor>& in) {
      Generator own(11);
      return mish(stochastic_depth(in[0] * 1.5, 0.4, mode, true, own));
    };
    const GradcheckResult result = gradcheck(f, {normal({5, 2, 3}).set_requires_grad()});
    CHECK_MESSAGE(result.ok, result.message);
  }
  Sequential plain, saving;
  Generator a(5), b(5);
  plain.emplace<StochasticDepth>("drop", 0.5, StochasticDepthMode::row, a);
  saving.emplace<StochasticDepth>("drop", 0.5, StochasticDepthMode::row, b).recompute(true);
  const auto gradient_of = [](Module& net) {
    const Tensor x = Tensor::ones({64, 2}).set_requires_grad();
    Tape tape;
    tape.backward(square(net(x)), Tensor::ones({64, 2}));
    return x.grad().to_vector<float>();
  };
  CHECK(gradient_of(plain) == gradient_of(saving));
  CHECK(a.count() == b.count());
}

TEST_CASE("ResBlock: where pooling, groups and squeeze are") {
  Module root;
  ResBlock trick{
      root, "trick", 8, 4, {.expansion = 4, .stride = 2, .pool = BlockPool::max_blur, .pool_first = true}};
  CHECK(trick(Tensor::ones({2, 7, 8, 8})).shape() == Shape{2, 3, 4, 16});  // the blur rounds down
  CHECK(trick.conv2.options().stride == 1);
  CHECK(trick.description() == "ResBlock(bottleneck, pool first, mish)");
  ResBlock dw{root, "dw", 8, 4, {.expansion = 4, .depthwise = 3}};
  CHECK(dw.conv2.weight.shape() == Shape{12, 3, 3, 1});
  CHECK_FALSE(dw.bn2.has_value());
  ResBlock dwn{root, "dwn", 8, 4, {.expansion = 4, .depthwise = 3, .depthwise_norm = true}};
  REQUIRE(dwn.bn2.has_value());
  CHECK(dwn.bn2->weight.shape() == Shape{12});
  CHECK(dwn.bn2->options().activation == Activation::mish);
  CHECK(dwn.description() == "ResBlock(bottleneck, depthwise 3 with norm, mish)");
  ResBlock next{
      root,
      "next",
      64,
      16,
      {.expansion = 4, .stride = 2, .pool = BlockPool::max, .groups = 4, .width = 8, .reduction = 16}};
  CHECK(next.conv2.weight.shape() == Shape{8, 3, 3, 2});
  CHECK(next.conv1.weight.shape() == Shape{8, 1, 1, 64});
  CHECK(next.squeeze->fc1.weight.shape() == Shape{8, 64});  // 64 / 16 = 4, to whole eights
  CHECK(next(Tensor::ones({1, 7, 8, 64})).shape() == Shape{1, 4, 4, 64});
  // All start as their shortcut.
  const Tensor x = normal({2, 4, 4, 16}, DType::f32);
  ResBlock same{root, "same", 16, 4, {.expansion = 4, .depthwise = 2, .reduction = 4}};
  const Tensor y = same(x), wanted = mish(x);
  for (int64_t i = 0; i < y.numel(); ++i) REQUIRE(y.at(i) == doctest::Approx(wanted.at(i)).epsilon(1e-5));
}

TEST_CASE("DepthNet: its parts, one after the other") {
  Generator own(1);
  DepthNet net(12, {}, own);
  net.eval();
  const Tensor x = normal({2, 28, 28, 1}, DType::f32);
  const Tensor y = net(x);
  CHECK(y.shape() == Shape{2, 10});
  const Tensor features = net.pool(mish(net.conv2(mish(net.conv1(x)))));
  CHECK(features.shape() == Shape{2, 10, 10, 50});
  CHECK(y.to_vector<float>() == net.dense(features).to_vector<float>());
  const auto* norm = dynamic_cast<BatchNorm2d*>(&net.dense.hidden[1]);
  REQUIRE(norm);
  CHECK(norm->options().eps == 1e-3);
  CHECK(norm->options().activation == Activation::mish);
}

TEST_CASE("errors name the layer and the numbers") {
  Module root;
  CHECK_ERROR(BlurPool2d(root, "b", {.filter = 9}), "BlurPool2d b: a filter of 9 taps; it must have 1 to 8");
  CHECK_ERROR(BlurPool2d(root, "b", {.stride = 0}), "stride 0");
  BlurPool2d blur{root, "blur", {.reflect = true}};
  CHECK_ERROR(blur(Tensor::ones({1, 1, 4, 2})), "1x4 is too small to be mirrored");
  const ResBlockOptions pooled{.stride = 2, .pool = BlockPool::max_blur, .pool_first = true};
  CHECK_ERROR(ResBlock(root, "p", 4, 4, pooled)(Tensor::ones({1, 3, 4, 4})),
              "the image 3x4 is too small to be mirrored under 6 taps; it must be at least 4x4 here");
  CHECK_ERROR(blur(Tensor::ones({4, 4})), "[N, H, W, C], got [4, 4]");
  SqueezeExcitation squeeze{root, "squeeze", 4, 2};
  CHECK_ERROR(squeeze(Tensor::ones({1, 2, 2, 3})), "C = 4");
  CHECK_ERROR(SqueezeExcitation(root, "s", 4, 0), "0");
  CHECK_ERROR(StochasticDepth(root, "d", 1.5), "1.5 is no probability");
  CHECK_ERROR(stochastic_depth(Tensor::ones({2}), -1, StochasticDepthMode::row), "p is -1");
  CHECK_ERROR(ResBlock(root, "r", 8, 4, {.depthwise = 2}), "needs a bottleneck");
  CHECK_ERROR(ResBlock(root, "r", 8, 4, {.depthwise_norm = true}), "depthwise_norm needs depthwise");
  CHECK_ERROR(ResBlock(root, "r", 8, 4, {.groups = 3}), "3 groups");
  CHECK_ERROR(ResBlock(root, "r", 8, 4, {.reduction = -1}), "none may be negative");
  CHECK_ERROR(CifarBlock(root, "c", 4, 7, 1), "4 input and 7 output channels");
  CHECK_ERROR(CifarResNet(21), "6 n + 2");
  CHECK_ERROR(MLP(6, 2)(Tensor::ones({1, 7})), "MLP: x has shape [1, 7]");
  CHECK_ERROR(DepthNet(2, {.image_size = 9}), "images of 9 pixels");
}
