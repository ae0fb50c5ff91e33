// For gradient checks of ops: inputs, and an op checked alone and in the middle of a chain of ops.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "weft/engine/gradcheck.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/tape.h"
#include "weft/kernels/parallel.h"

namespace weft::test {

using Inputs = std::vector<Tensor>;
using Function = std::function<Tensor(const Inputs&)>;

inline Generator gradient_generator(2024);

inline Tensor normal(const Shape& shape, double std = 1) {
  return Tensor::normal(shape, 0, std, gradient_generator, DType::f64);
}

/// Normal numbers, pushed `margin` away from 0.
inline Tensor nonzero(const Shape& shape, double margin = 0.3) {
  const Tensor t = normal(shape);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] += std::copysign(margin, t.data<double>()[i]);
  return t;
}

inline Tensor positive(const Shape& shape, double margin = 0.3) { return abs(nonzero(shape, margin)); }

/// Lets the inputs [from, to) want a gradient, and no other; those that are not f64 (labels) never do.
inline void want(const Inputs& inputs, size_t from, size_t to) {
  for (size_t k = 0; k < inputs.size(); ++k)
    if (inputs[k].dtype() == DType::f64) inputs[k].set_requires_grad(k >= from && k < to);
}

inline void expect_good(const GradcheckResult& result) { CHECK_MESSAGE(result.ok, result.message); }

/// Checks that one thread and five give the leaves gradients of the same bits.
inline void check_same_bits_on_threads(const Inputs& leaves, const std::function<Tensor()>& loss) {
  const int before = num_threads();
  const auto run = [&] {
    for (const Tensor& t : leaves) t.set_requires_grad().zero_grad();
    Tape tape;
    tape.backward(loss());
    std::vector<float> all;
    for (const Tensor& t : leaves)
      for (float v : t.grad().to_vector<float>()) all.push_back(v);
    return all;
  };
  set_num_threads(1);
  const std::vector<float> one = run();
  set_num_threads(5);
  CHECK(run() == one);
  set_num_threads(before);
}

/// f in the middle of a chain of ops.
inline Function chained(const Function& f) {
  return [f](const Inputs& leaves) {
    Inputs scaled;
    for (const Tensor& t : leaves) scaled.push_back(t.requires_grad() ? affine(t, 1.25) : t);
    return mish(affine(f(scaled), 0.5));
  };
}

/// Checks f with all inputs wanting a gradient, with each of them alone, and in the middle of a chain of ops.
inline void check_gradients(const Function& f, const Inputs& inputs) {
  want(inputs, 0, inputs.size());
  expect_good(gradcheck(f, inputs));
  expect_good(gradcheck(chained(f), inputs));
  for (size_t k = 0; inputs.size() > 1 && k < inputs.size(); ++k) {
    if (inputs[k].dtype() != DType::f64) continue;
    CAPTURE(k);
    want(inputs, k, k + 1);
    expect_good(gradcheck(f, inputs));
  }
}

/// The same, and in the chain the gradient's gradient too.
inline void check_both_gradients(const Function& f, const Inputs& inputs) {
  check_gradients(f, inputs);
  want(inputs, 0, inputs.size());
  expect_good(gradgradcheck(chained(f), inputs));
}

}  // namespace weft::test
