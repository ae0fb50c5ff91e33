// Values and shapes at the ends of what ops take: no numbers, no elements, the largest ones.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/errors.h"
#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/ops/spectral_norm.h"
#include "weft/engine/tape.h"
#include "weft/engine/tensor_batches.h"

using namespace weft;

TEST_CASE("a NaN in maximum or minimum gives both operands the gradient") {
  for (const auto op : {maximum, minimum})
    for (const bool first : {true, false}) {
      const Tensor a = Tensor::scalar(first ? std::nan("") : 3), b = Tensor::scalar(first ? 3 : std::nan(""));
      a.set_requires_grad(), b.set_requires_grad();
      Tape tape;
      tape.backward(op(a, b));
      CHECK(a.grad().item() == 1);
      CHECK(b.grad().item() == 1);
    }
}

TEST_CASE("batch norm of channels too large to be squared") {
  const Tensor x = Tensor::full({40, 17}, 2e19), one = Tensor::ones({17}), zero = Tensor::zeros({17});
  const Tensor mean = zero.clone(), var = one.clone();
  for (const float y : batch_norm(x, one, zero, mean, var, true).to_vector<float>()) CHECK(std::isfinite(y));
  for (const float v : var.to_vector<float>()) CHECK(std::isfinite(v));
}

TEST_CASE("parts of a tensor that overlap are copied as if they did not") {
  const Tensor t = Tensor::empty({1000});
  for (int i = 0; i < 1000; ++i) t.data<float>()[i] = float(i);
  t.part(1, {999}).copy_from(t.part(0, {999}));
  const auto values = t.to_vector<float>();
  CHECK(values[0] == 0);
  for (int i = 1; i < 1000; ++i) CHECK(values[size_t(i)] == float(i - 1));
}

TEST_CASE("shapes without elements whose other sizes are huge") {
  const Tensor none = Tensor::zeros({int64_t{1} << 60, 0});
  CHECK(narrow(none, 1, 0, 0).numel() == 0);
  CHECK(concat({none, none}, 1).numel() == 0);
}

TEST_CASE("a tensor of whole numbers needs no gradient") {
  const Tensor x = Tensor::ones({3});
  x.set_requires_grad();
  Tape tape;
  CHECK(!cast(x, DType::i64).requires_grad());
  CHECK(cast(x, DType::f64).requires_grad());
}

TEST_CASE("the sum over a few long rows") {
  const int64_t columns = 40'003;
  const Tensor x = Tensor::empty({2, 3, columns});
  for (int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = float(i % 1001);
  const auto y = sum(x, {1}).to_vector<float>();
  for (int64_t o = 0; o < 2; ++o)
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t at = o * 3 * columns + c;
      REQUIRE(y[size_t(o * columns + c)] ==
              float(at % 1001 + (at + columns) % 1001 + (at + 2 * columns) % 1001));
    }
}

TEST_CASE("numbers that are out of range, or just within it") {
  const Tensor x = Tensor::ones({4, 2});
  const TensorBatches whole(x, x, {.batch_size = std::numeric_limits<int64_t>::max(), .drop_last = false});
  CHECK(whole.batches() == 1);
  CHECK_ERROR(
      spectral_norm(Tensor::ones({3, 2}), Tensor::ones({3}), Tensor::ones({2}), {.n_power_iterations = -1}),
      "n_power_iterations");
}
