// Single ops for weft bench op, as data: shapes, the op, and how many bytes each pass must move.
#include <memory>

#include "weft/apps/weft/bench_op.h"
#include "weft/apps/weft/command.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/dropout.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/layers/activation.h"
#include "weft/layers/self_attention.h"

namespace weft::app {
namespace {

using Tensors = std::vector<Tensor>;

/// An op; forward, backward: elements that the pass must move (0: none, or a matter of multiply-adds).
struct Plain {
  std::string family, op;
  std::vector<Shape> inputs;
  double forward, backward;
  OpFunction f;
};

void add_activations(std::vector<Plain>& list, const Shape& image) {
  const double n = double(image.numel());
  for (int i = 1; i < kActivationCount; ++i)  // 0 is the identity
    list.push_back({"activation",
                    std::string(activation_name(Activation(i))),
                    {image},
                    2 * n,
                    3 * n,
                    [i](const Tensors& x) { return activation(x[0], Activation(i)); }});
}

Tensor labels_for(const Shape& logits, Device device) {
  Tensor labels = Tensor::empty({logits[0]}, DType::i64);
  for (int64_t i = 0; i < logits[0]; ++i) labels.data<int64_t>()[i] = i % logits[1];
  return labels.to(device);
}

void add_losses(std::vector<Plain>& list, int64_t batch, Device device) {
  for (const Shape& logits : {Shape{batch, 10}, Shape{4096, 1000}}) {
    const double n = double(logits.numel());
    list.push_back(
        {"loss", "softmax", {logits}, 2 * n, 3 * n, [](const Tensors& x) { return softmax(x[0]); }});
    list.push_back(
        {"loss", "log_softmax", {logits}, 2 * n, 3 * n, [](const Tensors& x) { return log_softmax(x[0]); }});
    list.push_back({"loss",
                    "cross_entropy",
                    {logits},
                    n,
                    2 * n,
                    [labels = labels_for(logits, device)](const Tensors& x) {
                      return cross_entropy(x[0], labels, {.label_smoothing = 0.1});
                    }});
  }
}

void add_products(std::vector<Plain>& list, int64_t batch) {
  for (int64_t n : {512, 1024})
    list.push_back(
        {"matmul", "matmul", {{n, n}, {n, n}}, 0, 0, [](const Tensors& x) { return matmul(x[0], x[1]); }});
  list.push_back({"matmul", "bmm", {{batch, 256, 256}, {batch, 256, 256}}, 0, 0, [](const Tensors& x) {
                    return bmm(x[0], x[1]);
                  }});
  list.push_back({"matmul", "linear", {{4096, 512}, {512, 512}, {512}}, 0, 0, [](const Tensors& x) {
                    return linear(x[0], x[1], x[2]);
                  }});
}

void add_elementwise(std::vector<Plain>& list, const Shape& image) {
  const double n = double(image.numel());
  const Shape channels{image[-1]};
  // The gradient of a sum is its output's, handed on.
  list.push_back(
      {"elementwise", "add", {image, image}, 3 * n, 0, [](const Tensors& x) { return x[0] + x[1]; }});
  list.push_back(
      {"elementwise", "add", {image, channels}, 2 * n, n, [](const Tensors& x) { return x[0] + x[1]; }});
  list.push_back(
      {"elementwise", "mul", {image, image}, 3 * n, 5 * n, [](const Tensors& x) { return x[0] * x[1]; }});
  list.push_back({"elementwise", "exp", {image}, 2 * n, 3 * n, [](const Tensors& x) { return exp(x[0]); }});
  list.push_back(
      {"elementwise", "affine", {image}, 2 * n, 2 * n, [](const Tensors& x) { return x[0] * 0.5; }});
}

void add_reductions(std::vector<Plain>& list, const Shape& image) {
  const double n = double(image.numel());
  list.push_back({"reduce", "sum of all", {image}, n, n, [](const Tensors& x) { return sum(x[0]); }});
  list.push_back({"reduce", "sum to channels", {image}, n, n, [](const Tensors& x) {
                    return sum(x[0], {0, 1, 2});
                  }});
  list.push_back(
      {"reduce", "mean of channels", {image}, n, n, [](const Tensors& x) { return mean(x[0], {3}); }});
  list.push_back(
      {"reduce", "amax of channels", {image}, n, 2 * n, [](const Tensors& x) { return amax(x[0], {3}); }});
}

/// An activation that learns or draws, as a layer.
struct LayerOfActivation : Module {
  LayerOfActivation(Activation act, int64_t channels) : layer(*this, "act", act, {}, channels) {}
  ActivationLayer layer;
};

OpCase activation_case(Activation act, const Shape& image, const BenchPlace& place) {
  const double n = double(image.numel()) * double(size_of(place.dtype));
  return {.family = "activation",
          .op = std::string(activation_name(act)),
          .shape = text_of(image),
          .passes = {{"forward", 2 * n}, {"backward", 3 * n}},
          .prepare = [act, image, place] {
            const auto module = std::make_shared<LayerOfActivation>(act, image[-1]);
            module->to(place.device);
            return run_of(
                {image}, [module](const Tensors& x) { return module->layer(x[0]); }, place, module.get());
          }};
}

/// SimpleSelfAttention alone.
struct Attention : Module {
  explicit Attention(int64_t channels) : layer(*this, "attention", channels) {}
  SimpleSelfAttention layer;
};

OpCase attention_case(const Shape& shape, const BenchPlace& place) {
  return {.family = "attention",
          .op = "SimpleSelfAttention",
          .shape = text_of(shape),
          .passes = {{"forward"}, {"backward"}},
          .prepare = [shape, place] {
            const auto module = std::make_shared<Attention>(shape[-1]);
            module->to(place.device);
            return run_of(
                {shape}, [module](const Tensors& x) { return module->layer(x[0]); }, place, module.get());
          }};
}

}  // namespace

std::vector<OpCase> plain_cases(const Shape& image, const Shape& stage, const BenchPlace& place) {
  std::vector<Plain> list;
  add_activations(list, image);
  add_losses(list, image[0], place.device);
  add_products(list, image[0]);
  add_elementwise(list, image);
  add_reductions(list, image);
  list.push_back({"dropout",
                  "dropout",
                  {image},
                  2 * double(image.numel()),
                  2 * double(image.numel()),
                  [](const Tensors& x) { return dropout(x[0], 0.5); }});

  const double element = double(size_of(place.dtype));
  std::vector<OpCase> cases{attention_case(stage, place)};
  for (int i = kActivationCount; i < kAllActivationCount; ++i)
    cases.push_back(activation_case(Activation(i), image, place));
  for (const Plain& p : list)
    cases.push_back({.family = p.family,
                     .op = p.op,
                     .shape = joined(p.inputs, ", ", text_of),
                     .passes = {{"forward", element * p.forward}, {"backward", element * p.backward}},
                     .prepare = [p, place] { return run_of(p.inputs, p.f, place); }});
  for (OpCase& c : sequence_cases(image, place)) cases.push_back(std::move(c));
  return cases;
}

}  // namespace weft::app
