// For gradient checks of ops: inputs, and an op checked alone and in the middle of a chain of ops.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "weft/engine/gradcheck.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/elementwise.h"

namespace weft::test {

using Inputs = std::vector<Tensor>;
using Function = std::function<Tensor(const Inputs&)>;

inline Generator gradient_generator(2026);

inline Tensor normal(const Shape& shape, double std = 1) {
  return Tensor::normal(shape, 0, std, gradient_generator, DType::f64);
}

inline void expect_good(const Function& f, const Inputs& inputs) {
  const GradcheckResult result = gradcheck(f, inputs);
  CHECK_MESSAGE(result.ok, result.message);
}

/// Checks f with all inputs wanting a gradient, in the middle of a chain of ops (there the gradient's
/// gradient too), and with each of them alone.
inline void check_gradients(const Function& f, const Inputs& inputs) {
  for (const Tensor& t : inputs) t.set_requires_grad();
  expect_good(f, inputs);
  const Function chain = [&](const Inputs& leaves) {
    Inputs scaled;
    for (const Tensor& t : leaves) scaled.push_back(affine(t, 1.25));
    return mish(affine(f(scaled), 0.5));
  };
  expect_good(chain, inputs);
  const GradcheckResult twice = gradgradcheck(chain, inputs);
  CHECK_MESSAGE(twice.ok, twice.message);
  for (size_t k = 0; inputs.size() > 1 && k < inputs.size(); ++k) {
    CAPTURE(k);
    for (size_t i = 0; i < inputs.size(); ++i) inputs[i].set_requires_grad(i == k);
    expect_good(f, inputs);
  }
}

}  // namespace weft::test
