// Gradients of gradients on a GPU (an emulated one, or a real one: cuda_gradgrad_test_gpu) against the
// reference loops in f64, in mixed precision too; and tracing of NaN there.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/cuda_switches.h"
#include "support/device_arrays.h"
#include "support/errors.h"
#include "weft/kernels/cuda.h"
#include "weft/weft.h"

using namespace weft;

namespace {

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.to(Device::cpu).to(DType::f64).to_vector<double>(), y = b.to_vector<double>();
  double difference = 0, norm = 1e-30;
  for (size_t i = 0; i < x.size(); ++i) {
    difference += (x[i] - y[i]) * (x[i] - y[i]);
    norm += y[i] * y[i];
  }
  return std::sqrt(difference / norm);
}

/// A bit of everything: convolution with bias, fused batch norm with a residual, two of them added, the
/// activation of a sum, both pools, narrow and concat, softmax, cross entropy. `compute` is the type of the
/// activations.
Tensor loss(const std::vector<Tensor>& v, DType compute) {
  const Tensor x = cast(v[0], compute);
  const Tensor mean = Tensor::zeros({4}, v[1].dtype()).to(x.device()),
               var = Tensor::ones({4}, v[1].dtype()).to(x.device());
  Tensor y = conv2d(x, v[1], v[2], {.padding = 1});
  y = batch_norm(y, v[3], v[4], mean, var, true, {.activation = Activation::mish}, silu(y));
  y = batch_norm_pair({y, v[3], v[4], mean.clone(), var.clone()}, {mish(y), v[4], v[3], mean, var},
                      {.activation = Activation::silu});
  y = add_activation(y, tanh(y), Activation::mish);
  y = concat({max_pool2d(y, {.kernel = 3, .stride = 2, .padding = 1}), avg_pool2d(y, {.ceil_mode = true})},
             -1);
  y = concat({narrow(y, 3, 0, 3), softmax(narrow(y, 3, 3, 5) / 2.0)}, -1);
  y = linear(global_avg_pool(y), v[5]);
  return cross_entropy(y, Tensor::from<int64_t>({2, 0}, {2}).to(x.device()), {.label_smoothing = 0.1});
}

struct Second {
  HvpResult hvp;
  std::vector<Tensor> penalty;  // gradients of a penalty on the slope along x
};

Second second(const std::vector<Tensor>& v, const std::vector<Tensor>& along, DType compute) {
  Second s{hvp([&] { return loss(v, compute); }, v, along), {}};
  Tape tape;
  const Tensor slope = tape.grad(loss(v, compute), {v[0]}, {.create_graph = true})[0];
  s.penalty = tape.grad(sum(square(slope)), v, {.materialize_grads = true});
  return s;
}

}  // namespace

TEST_CASE("second derivatives on the GPU are those of the reference") {
  Generator generator(9);
  const Shape shapes[] = {{2, 5, 6, 3}, {4, 3, 3, 3}, {4}, {4}, {4}, {3, 8}};
  std::vector<Tensor> wide, along_wide;
  for (const Shape& s : shapes) {
    wide.push_back(Tensor::normal(s, 0, 0.5, generator).to(DType::f64).set_requires_grad());
    along_wide.push_back(Tensor::normal(s, 0, 1, generator).to(DType::f64));
  }
  const Second expected = second(wide, along_wide, DType::f64);
  const test::ExactFloat exact;
  for (const DType compute : {DType::f32, DType::f16, DType::bf16}) {
    const double tolerance = compute == DType::f32 ? 1e-4 : compute == DType::f16 ? 3e-2 : 0.2;
    CAPTURE(compute);
    std::vector<Tensor> v, along;
    for (size_t i = 0; i < wide.size(); ++i) {
      v.push_back(wide[i].detach().to(DType::f32).to(Device::cuda).set_requires_grad());
      along.push_back(along_wide[i].to(DType::f32).to(Device::cuda));
    }
    const Second got = second(v, along, compute);
    for (size_t i = 0; i < v.size(); ++i) {
      CAPTURE(i);
      CHECK(got.hvp.product[i].dtype() == DType::f32);
      CHECK(distance(got.hvp.gradient[i], expected.hvp.gradient[i]) < tolerance);
      CHECK(distance(got.hvp.product[i], expected.hvp.product[i]) < tolerance);
      CHECK(distance(got.penalty[i], expected.penalty[i]) < tolerance);
    }
  }
}

TEST_CASE("comparisons, where, clamp and pow on the GPU") {
  Generator generator(3);
  const Tensor a = Tensor::normal({5, 7}, 0, 0.4, generator), b = Tensor::normal({7}, 0, 0.4, generator);
  // The value, the gradients and those of their squares.
  const auto all = [](const Tensor& a, const Tensor& b) {
    const std::vector<Tensor> v{a.detach().set_requires_grad(), b.detach().set_requires_grad()};
    Tape tape;
    const Tensor y =
        where(gt(v[0], v[1]), clamp(v[0] * v[1], -0.5, 0.75), pow(v[1], 3) + pow(abs(v[0]), 1.5));
    std::vector<Tensor> result{y};
    const auto g = tape.grad(sum(square(y)), v, {.create_graph = true});
    result.insert(result.end(), g.begin(), g.end());
    for (const Tensor& second : tape.grad(sum(square(g[0])) + sum(square(g[1])), v)) result.push_back(second);
    return result;
  };
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    CAPTURE(dtype);
    const Tensor x = a.to(dtype), z = b.to(dtype);
    const auto want = all(x.to(DType::f64), z.to(DType::f64)),
               got = all(x.to(Device::cuda), z.to(Device::cuda));
    for (size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      CHECK(distance(got[i], want[i]) < (dtype == DType::f32 ? 1e-5 : dtype == DType::f16 ? 1e-2 : 5e-2));
    }
  }
  CHECK_ERROR(eq(Tensor::zeros({2}, DType::i64).to(Device::cuda), 1),
              "eq: dtype i64 has no arithmetic on a GPU");
}

TEST_CASE("ops by index and order, spreads, sums of products on the GPU") {
  struct Case {
    const char* name;
    Tensor (*f)(const Tensor& x, const Tensor& index);
  };
  // x [5, 7]; an index [5, 4] below 4.
  const Case cases[] = {
      {"gather", [](const Tensor& x, const Tensor& index) { return gather(x, 1, index); }},
      {"index_select",
       [](const Tensor& x, const Tensor& index) { return index_select(x, 0, flatten(index, 0)); }},
      {"scatter_add",
       [](const Tensor& x, const Tensor& index) { return scatter_add(x, 1, index, narrow(x, 1, 0, 4)); }},
      {"embedding",
       [](const Tensor& x, const Tensor& index) { return embedding(index, x, {.padding_idx = 1}); }},
      {"sort", [](const Tensor& x, const Tensor&) { return sort(x, 0).values; }},
      {"topk", [](const Tensor& x, const Tensor&) { return topk(x, 3).values; }},
      {"cumsum", [](const Tensor& x, const Tensor&) { return cumsum(x, 0) * cumsum(x, 1); }},
      {"sin", [](const Tensor& x, const Tensor&) { return sin(4.0 * x) + cos(x); }},
      {"std", [](const Tensor& x, const Tensor&) { return weft::std(x, {1}) + var(x, {1}); }},
      {"logsumexp", [](const Tensor& x, const Tensor&) { return logsumexp(3.0 * x, {0}); }},
      {"einsum",
       [](const Tensor& x, const Tensor&) {
         return einsum("ij,kj->ik", {x, x});
       }},
  };
  Generator generator(4);
  const Tensor values = Tensor::normal({5, 7}, 0, 0.7, generator), index = Tensor::empty({5, 4}, DType::i64);
  for (int64_t i = 0; i < index.numel(); ++i) index.data<int64_t>()[i] = i * i % 4;
  const test::ExactFloat exact;
  for (const Case& c : cases)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      CAPTURE(c.name);
      CAPTURE(dtype);
      const auto all = [&](const Tensor& at, const Tensor& by) {
        const Tensor x = at.detach().set_requires_grad();
        Tape tape;
        const Tensor y = c.f(x, by), slope = tape.grad(sum(square(y)), {x}, {.create_graph = true})[0];
        return std::vector<Tensor>{y, slope, tape.grad(sum(square(slope)), {x})[0]};
      };
      const Tensor x = values.to(dtype);
      const auto want = all(x.to(DType::f64), index), got = all(x.to(Device::cuda), index.to(Device::cuda));
      for (size_t i = 0; i < want.size(); ++i) {
        CAPTURE(i);
        CHECK(distance(got[i], want[i]) < (dtype == DType::f32 ? 1e-5 : dtype == DType::f16 ? 1e-2 : 6e-2));
      }
    }
  const Tensor x = values.to(Device::cuda);
  const auto places = [](const Tensor& t) { return t.to_vector<int64_t>(); };
  for (const int dim : {0, 1}) {
    CHECK(places(argmax(x, dim)) == places(argmax(values, dim)));
    CHECK(places(argmin(x, dim)) == places(argmin(values, dim)));
    CHECK(places(argsort(x, dim, true)) == places(argsort(values, dim, true)));
  }
  CHECK(Tensor::arange(0, 3, 1, DType::f32, Device::cuda).to_vector<float>() == std::vector<float>{0, 1, 2});
}

TEST_CASE("rows that are ignored count nothing on the GPU even if they are no numbers") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from<float>({-1, -2, nan, nan}, {2, 2}).to(Device::cuda).set_requires_grad();
  const Tensor labels = Tensor::from<int64_t>({0, -100}, {2}).to(Device::cuda);
  for (const Reduction r : {Reduction::mean, Reduction::sum, Reduction::none}) {
    Tape tape;
    const Tensor nll = sum(nll_loss(x, labels, {.ignore_index = -100, .reduction = r}));
    const Tensor cross = sum(cross_entropy(x, labels, {.ignore_index = -100, .reduction = r}));
    CHECK(nll.item() == 1);
    CHECK(cross.item() == doctest::Approx(0.31326169));
    for (const Tensor& loss : {nll, cross}) {
      const Tensor dx = tape.grad(loss, {x}, {.retain_graph = true})[0];
      CHECK(dx.at(0) == doctest::Approx(loss.is(nll) ? -1 : -0.26894143));
      CHECK((dx.at(2) == 0 && dx.at(3) == 0));
    }
  }
}

TEST_CASE("NaN is traced on the GPU") {
  Tensor x = Tensor::ones({3, 4});
  x.data<float>()[9] = std::numeric_limits<float>::quiet_NaN();
  const Tensor y = x.to(Device::cuda);
  const DetectAnomaly tracing({.step = 4});
  CHECK_ERROR(relu(y), "step 4: forward of relu: output 0 f32 [3, 4] has nan at [2, 1], sample 2");
  CHECK_ERROR(relu(y.to(DType::bf16)), "output 0 bf16 [3, 4] has nan");
}
