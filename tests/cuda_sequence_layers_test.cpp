// Layers for sequences and normalisation on the GPU beside the CPU, forward and backward, f32 and bf16.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <memory>

#include "support/cuda_switches.h"
#include "support/device_arrays.h"
#include "weft/weft.h"

using namespace weft;

namespace {

/// |a - b| / |b|, with the elements of b around 1 or 0.
double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  double difference = 0, norm = 1e-12;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double d = a.at(i) - b.at(i);
    difference += d * d, norm += b.at(i) * b.at(i);
  }
  return std::sqrt(difference / norm);
}

using Forward = std::function<Tensor(Module& layer, const Tensor& x)>;

/// Runs the layer that `make` gives on both devices from the same numbers and compares output and gradients.
template <class Make>
void compare(const Make& make, const Tensor& x, const Forward& forward, DType dtype = DType::f32) {
  struct Result {
    Tensor out;
    std::vector<Parameter> gradients;
  };
  const auto run = [&](Device device) {
    Generator g(21);
    const std::shared_ptr<Module> layer = make(g);
    layer->to(device);
    Tensor in = x.clone().to(device);  // the gradient is its own
    const bool mixed = device == Device::cuda && dtype != DType::f32 && is_floating(x.dtype());
    if (mixed) in = in.to(dtype);
    if (is_floating(in.dtype())) in.set_requires_grad();
    Tape tape;
    const Tensor y = cast(forward(*layer, in), DType::f32);
    Generator weights(23);  // without them the sum of squares behind a norm would not depend on x
    tape.backward(sum(square(y) * Tensor::normal(y.shape(), 0, 1, weights).to(device)));
    Result r{y.to(Device::cpu), {}};
    if (is_floating(in.dtype())) r.gradients.push_back({"x", in.grad().to(Device::cpu).to(DType::f32)});
    for (const Parameter& p : layer->parameters())
      if (p.tensor.grad().defined()) r.gradients.push_back({p.name, p.tensor.grad().to(Device::cpu)});
    return r;
  };
  const Result cpu = run(Device::cpu), gpu = run(Device::cuda);
  const double tolerance = dtype == DType::f32 ? 2e-4 : 8e-2;
  CHECK(distance(gpu.out, cpu.out) < tolerance);
  REQUIRE(gpu.gradients.size() == cpu.gradients.size());
  for (size_t i = 0; i < cpu.gradients.size(); ++i) {
    CAPTURE(cpu.gradients[i].name);
    CHECK(gpu.gradients[i].name == cpu.gradients[i].name);
    double size = 0;
    for (int64_t k = 0; k < cpu.gradients[i].tensor.numel(); ++k)
      size += std::abs(cpu.gradients[i].tensor.at(k)) / double(cpu.gradients[i].tensor.numel());
    if (size < 1e-4) continue;  // a sum that cancels: rounding alone
    CHECK(distance(gpu.gradients[i].tensor, cpu.gradients[i].tensor) < tolerance);
  }
}

template <class T>
struct Alone : Module {
  template <class... Args>
  explicit Alone(Args&&... args) : layer(*this, "layer", std::forward<Args>(args)...) {}
  Tensor forward(const Tensor& x) override { return layer(x); }
  T layer;
};

const Forward plain = [](Module& m, const Tensor& x) { return m(x); };

}  // namespace

TEST_CASE("norms and convolutions") {
  const test::ExactFloat exact;
  Generator g(20);
  const Tensor image = Tensor::normal({2, 6, 5, 16}, 0.5, 1, g), line = Tensor::normal({2, 9, 8}, 0, 1, g);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(dtype);
    compare([](Generator&) { return std::make_shared<Alone<GroupNorm>>(4, 16); }, image, plain, dtype);
    compare([](Generator&) { return std::make_shared<Alone<LayerNorm>>(int64_t{16}); }, image, plain, dtype);
    compare([](Generator&) { return std::make_shared<Alone<InstanceNorm2d>>(16); }, image, plain, dtype);
    compare(
        [](Generator& r) {
          return std::make_shared<Alone<ConvTranspose2d>>(
              16, 8, ConvTransposeLayerOptions{.stride = 2, .padding = 1}, r);
        },
        image, plain, dtype);
    compare(
        [](Generator& r) {
          return std::make_shared<Alone<SpectralNorm<Conv2d>>>(16, 8, Conv2dLayerOptions{.kernel = 3}, r);
        },
        image, plain, dtype);
    compare(
        [](Generator& r) {
          return std::make_shared<Alone<Conv1d>>(8, 4, Conv2dLayerOptions{.padding = 2}, r);
        },
        line, plain, dtype);
  }
}

TEST_CASE("attention and transformers") {
  const test::ExactFloat exact;
  Generator g(22);
  const Tensor x = Tensor::normal({2, 5, 8}, 0, 1, g);
  const Tensor padding = Tensor::from<uint8_t>({0, 0, 0, 1, 1, 1, 1, 1, 1, 1}, {2, 5});
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(dtype);
    const Forward masked = [&](Module& m, const Tensor& in) {
      auto& layer = static_cast<Alone<TransformerEncoderLayer>&>(m).layer;
      return layer(in, {.key_padding_mask = padding.to(in.device()), .is_causal = true});
    };
    compare(
        [](Generator& r) {
          return std::make_shared<Alone<TransformerEncoderLayer>>(
              8, 2, TransformerOptions{.dim_feedforward = 12, .dropout = 0, .activation = Activation::gelu},
              r);
        },
        x, masked, dtype);
    const VisionTransformerOptions small{
        .patch = 4, .width = 16, .depth = 1, .heads = 2, .class_token = true};
    compare(
        [&](Generator& r) {
          const auto net = std::make_shared<VisionTransformer>(small, r);
          init::normal_(net->head.weight, 0, 1, r);
          return net;
        },
        Tensor::normal({2, 8, 8, 3}, 0, 1, g), plain, dtype);
  }
  const Tensor tokens = Tensor::from<int64_t>({1, 3, 3, 0, 2, 4}, {2, 3});
  compare(
      [](Generator& r) {
        return std::make_shared<TokenTransformer>(
            5, TokenTransformerOptions{.max_length = 4, .width = 8, .depth = 1, .heads = 2}, r);
      },
      tokens, plain);
}

TEST_CASE("an index outside of the table is NaN on the GPU") {
  const Tensor weight = Tensor::ones({3, 4}).to(Device::cuda);
  const Tensor y = embedding(Tensor::from<int64_t>({1, 3}, {2}).to(Device::cuda), weight).to(Device::cpu);
  CHECK(y.at(0) == 1);
  CHECK(std::isnan(y.at(4)));
}

TEST_CASE("a model on the GPU is summarised as on the CPU") {
  const auto model = make_model("xresnet18");
  const std::string want = summary(*model, {1, 32, 32, 3});
  model->to(Device::cuda);
  CHECK(summary(*model, {1, 32, 32, 3}) == want);
}

TEST_CASE("a captured step keeps the constants that it reads") {
  Sequential net;
  Module& pool = net.emplace<MaxBlurPool2d>("pool", kPyramidPool);
  Generator generator(4);
  const auto image = [&](int64_t size) {
    return Tensor::normal({2, size, size, 3}, 0, 1, generator).to(Device::cuda);
  };
  const Tensor x = image(8);
  const Tensor want = pool(x).to(Device::cpu);  // makes the constants, outside of the step's memory
  MemoryPool memory(Device::cuda);
  Tensor y;
  std::unique_ptr<kernels::cuda::Graph> graph;
  {
    const MemoryPool::Use use(memory);
    graph = kernels::cuda::capture([&] { y = pool(x); });
  }
  for (int64_t size = 9; size < 30; ++size) pool(image(size));  // makes more than are kept
  std::vector<Tensor> anew;
  for (int i = 0; i < 8; ++i) {  // takes what they left
    anew.push_back(Tensor::full({4, 8}, 100, DType::f32, Device::cuda));
    anew.push_back(Tensor::full({2, 4, 8, 3}, 100, DType::f32, Device::cuda));
  }
  graph->launch();
  CHECK(distance(y.to(Device::cpu), want) < 1e-5);
}
