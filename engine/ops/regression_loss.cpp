#include "weft/engine/ops/regression_loss.h"

#include <cmath>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss_helpers.h"

namespace weft {
namespace {

Tensor difference(const char* op, const Tensor& x, const Tensor& target) {
  ops::check_same_shape(op, x, target);
  const Tensor a = ops::widened(x), b = ops::widened(target);
  ops::check_same_dtype(op, a, b);
  return sub(a, b);
}

/// With c = d within [-delta, delta]: c (d - c / 2) is d^2 / 2 there, and has slope delta outside.
Tensor huber(const Tensor& d, double delta) {
  const auto bound = [&](double value) { return Tensor::scalar(value, d.dtype(), d.device()); };
  const Tensor c = minimum(maximum(d, bound(-delta)), bound(delta));
  return mul(c, sub(d, affine(c, 0.5)));
}

}  // namespace

Tensor l1_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  return ops::reduced(abs(difference("l1_loss", x, target)), reduction);
}

Tensor huber_loss(const Tensor& x, const Tensor& target, double delta, Reduction reduction) {
  check(std::isfinite(delta) && delta > 0, "huber_loss: delta ", delta, " must be above 0");
  return ops::reduced(huber(difference("huber_loss", x, target), delta), reduction);
}

Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, double beta, Reduction reduction) {
  check(std::isfinite(beta) && beta >= 0, "smooth_l1_loss: beta ", beta, " must be 0 or more");
  const Tensor d = difference("smooth_l1_loss", x, target);
  return ops::reduced(beta == 0 ? abs(d) : affine(huber(d, beta), 1 / beta), reduction);
}

}  // namespace weft
