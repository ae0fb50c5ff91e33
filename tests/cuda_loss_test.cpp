// Losses with their gradients on a GPU (an emulated one, or a real one: cuda_loss_test_gpu) against f64 on
// the CPU.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "support/device_arrays.h"
#include "weft/engine/allocator.h"
#include "weft/kernels/cuda.h"
#include "weft/weft.h"

using namespace weft;

namespace {

using Inputs = std::vector<Tensor>;

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.to(Device::cpu).to(DType::f64).to_vector<double>(), y = b.to_vector<double>();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) difference += (x[i] - y[i]) * (x[i] - y[i]), norm += y[i] * y[i];
  return std::isnan(difference) ? INFINITY : std::sqrt(difference / norm);
}

struct Case {
  const char* name;
  std::function<Tensor(const Inputs&)> f;  // of logits and targets [6, 11], labels [6], weights [11]
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {"l1", [](const Inputs& x) { return l1_loss(x[0], x[1]); }},
      {"huber", [](const Inputs& x) { return huber_loss(x[0], x[1], 0.7); }},
      {"smooth l1", [](const Inputs& x) { return smooth_l1_loss(x[0], x[1], 0.7, Reduction::none); }},
      {"bce", [](const Inputs& x) { return binary_cross_entropy_with_logits(x[0], x[1]); }},
      {"bce, weighted",
       [](const Inputs& x) {
         return binary_cross_entropy_with_logits(x[0], x[1], {.weight = x[3], .pos_weight = x[3]});
       }},
      {"sigmoid focal", [](const Inputs& x) { return sigmoid_focal_loss(x[0], x[1], {.gamma = 1.5}); }},
      {"nll", [](const Inputs& x) { return nll_loss(x[0], x[2], {.weight = x[3]}); }},
      {"cross entropy, weighted, some ignored",
       [](const Inputs& x) {
         return cross_entropy(x[0], x[2], {.label_smoothing = 0.1, .weight = x[3], .ignore_index = 4});
       }},
      {"cross entropy, rows",
       [](const Inputs& x) {
         return cross_entropy(x[0], x[2], {.ignore_index = -100, .reduction = Reduction::none});
       }},
      {"softmax focal",
       [](const Inputs& x) { return softmax_focal_loss(x[0], x[2], {.gamma = 2, .weight = x[3]}); }},
      {"softmax focal, power",
       [](const Inputs& x) { return softmax_focal_loss(x[0], x[1], {.gamma = 1.5}); }},
      {"kl", [](const Inputs& x) { return kl_div(x[0], x[1], {.reduction = Reduction::batchmean}); }},
  };
  return list;
}

void compare(const Case& c, DType dtype, double tolerance) {
  CAPTURE(c.name);
  CAPTURE(name_of(dtype));
  const uint64_t seed = test::new_seed();
  CAPTURE(seed);
  Generator generator(seed);
  const Tensor x = Tensor::uniform({6, 11}, -4, 4, generator).to(dtype),
               target = softmax(Tensor::normal({6, 11}, 0, 2, generator)).to(dtype),
               labels = Tensor::from<int64_t>({4, 0, 10, 4, 7, 1}, {6}),
               weight = Tensor::uniform({11}, 0.5, 2, generator);
  const auto run = [&](const Tensor& logits, const Inputs& rest) {
    logits.set_requires_grad(true);
    Tape tape;
    const Tensor loss = c.f({logits, rest[0], rest[1], rest[2]});
    const Tensor g = Tensor::full(loss.shape(), 0.7, loss.dtype(), loss.device());
    tape.backward(loss, g);
    return loss.detach();
  };
  const Tensor there = x.to(Device::cuda), here = x.to(DType::f64);
  const Tensor got = run(there, {target.to(Device::cuda), labels.to(Device::cuda), weight.to(Device::cuda)});
  const Tensor want = run(here, {target.to(DType::f64), labels, weight.to(DType::f64)});
  CHECK(got.dtype() == DType::f32);
  CHECK(distance(got, want) < tolerance);
  CHECK(there.grad().dtype() == dtype);
  CHECK(distance(there.grad(), here.grad()) < (dtype == DType::f32 ? tolerance : 1e-2));
}

}  // namespace

TEST_CASE("losses and their gradients on a GPU") {
  for (const Case& c : cases())
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) compare(c, dtype, 1e-5);
}

TEST_CASE("losses within a captured step, the same bits as outside") {
  Generator generator(5);
  const Tensor labels = Tensor::from<int64_t>({4, 0, 10, 4, 7, 1}, {6}).to(Device::cuda),
               weight = Tensor::uniform({11}, 0.5, 2, generator).to(Device::cuda),
               target = softmax(Tensor::normal({6, 11}, 0, 2, generator)).to(Device::cuda);
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    const Tensor x = Tensor::normal({6, 11}, 0, 2, generator).to(Device::cuda);
    x.set_requires_grad(true);
    const Tensor loss_out = Tensor::zeros({66}, DType::f32, Device::cuda),
                 grad_out = Tensor::zeros({6, 11}, DType::f32, Device::cuda);
    const auto step = [&] {
      Tape tape;
      const Tensor loss = c.f({x, target, labels, weight});
      kernels::cuda::copy(loss_out.raw(), loss.raw(), loss.bytes());
      tape.backward(sum(loss));
      kernels::cuda::copy(grad_out.raw(), x.grad().raw(), grad_out.bytes());
      x.zero_grad();
    };
    const MemoryPool pool(Device::cuda);
    const MemoryPool::Use use(pool);
    step();
    step();
    const auto loss = loss_out.to_vector<float>(), grad = grad_out.to_vector<float>();
    const auto graph = kernels::cuda::capture(step);
    loss_out.fill(0), grad_out.fill(0);
    graph->launch();
    CHECK(loss_out.to_vector<float>() == loss);
    CHECK(grad_out.to_vector<float>() == grad);
  }
}
