// What products of f32 tensors may round to on the CPU.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "weft/engine/ops/conv.h"
#include "weft/engine/ops/conv_transpose.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/random.h"
#include "weft/engine/tape.h"
#include "weft/kernels/convolution.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/precision.h"
#include "weft/optim/optimizers/muon.h"

using namespace weft;
using namespace weft::optim;

namespace {

/// Sets the precision of the process while it lives.
struct Precision {
  explicit Precision(MatmulPrecision precision) { set_float32_matmul_precision(precision); }
  ~Precision() { set_float32_matmul_precision(MatmulPrecision::high); }
};

/// The op's value and the gradients of its operands under a random gradient.
template <class F>
std::vector<std::vector<float>> all_of(const F& op, const std::vector<Tensor>& operands) {
  std::vector<Tensor> leaves;
  for (const Tensor& t : operands) leaves.push_back(t.clone().set_requires_grad());
  Tape tape;
  const Tensor y = op(leaves);
  std::vector<std::vector<float>> all = {y.to(DType::f32).to_vector<float>()};
  manual_seed(3);
  tape.backward(sum(y * Tensor::uniform(y.shape(), -1, 1).to(y.dtype())));
  for (const Tensor& t : leaves) all.push_back(t.grad().to(DType::f32).to_vector<float>());
  return all;
}

/// The root mean square difference, over the root mean square.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference += std::pow(double(a[i]) - double(b[i]), 2), size += std::pow(double(b[i]), 2);
  return std::sqrt(difference / size);
}

}  // namespace

TEST_CASE("matmul precision: default, and a scope of one thread") {
  CHECK(float32_matmul_precision() == MatmulPrecision::high);
  const Precision medium(MatmulPrecision::medium);
  CHECK(float32_matmul_precision() == MatmulPrecision::medium);
  {
    const MatmulPrecisionScope scope(MatmulPrecision::highest);
    CHECK(float32_matmul_precision() == MatmulPrecision::highest);
    {
      const MatmulPrecisionScope inner(MatmulPrecision::high);
      CHECK(float32_matmul_precision() == MatmulPrecision::high);
    }
    CHECK(float32_matmul_precision() == MatmulPrecision::highest);
    MatmulPrecision elsewhere = MatmulPrecision::high;
    std::thread([&] { elsewhere = float32_matmul_precision(); }).join();
    CHECK(elsewhere == MatmulPrecision::medium);
  }
  CHECK(float32_matmul_precision() == MatmulPrecision::medium);
}

TEST_CASE("products round to bf16 where it is allowed and faster, forward and backward") {
  if (!cpu_multiplies_bf16()) MESSAGE("not run: these kernels do not multiply bf16, and must change nothing");
  struct Case {
    const char* name;
    Tensor (*op)(const std::vector<Tensor>& operands);
    std::vector<Shape> shapes;
  };
  const Case cases[] = {
      {"matmul", [](const auto& t) { return matmul(t[0], t[1]); }, {{50, 70}, {70, 40}}},
      {"linear", [](const auto& t) { return linear(t[0], t[1], t[2]); }, {{3, 20, 64}, {48, 64}, {48}}},
      {"bmm", [](const auto& t) { return bmm(t[0], t[1]); }, {{3, 33, 65}, {3, 65, 37}}},
      {"conv2d",
       [](const auto& t) { return conv2d(t[0], t[1], t[2]); },
       {{2, 9, 7, 32}, {48, 1, 1, 32}, {48}}},
      {"conv2d with stride",
       [](const auto& t) { return conv2d(t[0], t[1], {}, {.stride = 2, .padding = 1}); },
       {{2, 9, 8, 32}, {24, 5, 5, 32}}},
      {"conv1d",
       [](const auto& t) { return conv1d(t[0], t[1], {}, {.padding = 1}); },
       {{2, 21, 32}, {40, 5, 32}}},
      {"conv_transpose2d",
       [](const auto& t) { return conv_transpose2d(t[0], t[1], {}, {.stride = 2}); },
       {{2, 5, 6, 32}, {32, 2, 2, 48}}},
      {"conv_transpose1d",
       [](const auto& t) { return conv_transpose1d(t[0], t[1], {}, {.stride = 2}); },
       {{2, 9, 32}, {32, 3, 48}}},
  };
  set_exact(true);  // Winograd's errors would be in the way
  for (const Case& c : cases) {
    const std::string name = c.name;
    CAPTURE(name);
    manual_seed(1);
    std::vector<Tensor> operands, doubles;
    for (const Shape& shape : c.shapes) {
      operands.push_back(Tensor::uniform(shape, -1, 1));
      doubles.push_back(operands.back().to(DType::f64));
    }
    const auto in_double = all_of(c.op, doubles);
    const auto plain = all_of(c.op, operands);
    const Precision medium(MatmulPrecision::medium);
    const auto rounded = all_of(c.op, operands);
    CHECK(all_of(c.op, doubles) == in_double);
    for (size_t i = 0; i < plain.size(); ++i) {
      CAPTURE(i);
      CHECK(distance(plain[i], in_double[i]) < 1e-6);
      if (c.shapes.size() == 3 && i == 3) {
        CHECK(rounded[i] == plain[i]);  // the bias' gradient is a sum, not a product
      } else if (cpu_multiplies_bf16()) {
        // Two roundings of 2^-9 at most make 2^-9 sqrt(2 / 3) in the root mean square, about.
        CHECK(distance(rounded[i], in_double[i]) < 4e-3);
        CHECK(distance(rounded[i], in_double[i]) > 5e-4);
      } else {
        CHECK(rounded[i] == plain[i]);
      }
    }
    const MatmulPrecisionScope highest(MatmulPrecision::highest);
    CHECK(all_of(c.op, operands) == plain);
  }
  set_exact(false);
}

TEST_CASE("infinity and NaN come through products of bf16") {
  const Precision medium(MatmulPrecision::medium);
  manual_seed(2);
  const Tensor a = Tensor::uniform({40, 40}, -1, 1), b = Tensor::uniform({40, 40}, -1, 1);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  a.data<float>()[3] = inf;
  a.data<float>()[41] = nan;
  const std::vector<float> c = matmul(a, b).to_vector<float>();
  for (int j = 0; j < 40; ++j) {
    CHECK(std::isinf(c[size_t(j)]));
    CHECK(std::isnan(c[size_t(40 + j)]));
    CHECK(std::isfinite(c[size_t(80 + j)]));
  }
}

TEST_CASE("Newton-Schulz: f32 by Gram matrices, bf16 directly") {
  manual_seed(5);
  const std::array<double, 3> coefficients = MuonOptions{}.ns_coefficients;
  const auto run = [&](const Tensor& x, DType dtype) {
    return newton_schulz(x.to(dtype), coefficients, 5, 1e-7).to(DType::f32).to_vector<float>();
  };
  const Tensor tall = Tensor::normal({40, 2000}, 0, 1), square = Tensor::normal({64, 64}, 0, 1);
  const auto tall_in_f32 = run(tall, DType::f32), square_in_f64 = run(square, DType::f64);
  const Precision medium(MatmulPrecision::medium);
  CHECK(run(tall, DType::f32) == tall_in_f32);
  CHECK(distance(run(square, DType::f32), square_in_f64) < 0.05);
  if (cpu_multiplies_bf16()) CHECK(distance(run(square, DType::f32), square_in_f64) > 1e-4);
}
