#include "weft/engine/ops/regression_loss.h"

#include <cmath>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss_helpers.h"

namespace weft {
namespace {

Tensor distance(const char* op, const Tensor& x, const Tensor& target) {
  ops::check_same_shape(op, x, target);
  const Tensor a = ops::widened(x), b = ops::widened(target);
  ops::check_same_dtype(op, a, b);
  return abs(sub(a, b));
}

/// With c = min(d, delta): c (d - c / 2) is d^2 / 2 below delta, and has slope delta above.
Tensor huber(const Tensor& d, double delta) {
  const Tensor c = minimum(d, Tensor::full({}, delta, d.dtype(), d.device()));
  return mul(c, sub(d, affine(c, 0.5)));
}

}  // namespace

Tensor l1_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  return ops::reduced(distance("l1_loss", x, target), reduction);
}

Tensor huber_loss(const Tensor& x, const Tensor& target, double delta, Reduction reduction) {
  check(std::isfinite(delta) && delta > 0, "huber_loss: delta ", delta, " must be above 0");
  return ops::reduced(huber(distance("huber_loss", x, target), delta), reduction);
}

Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, double beta, Reduction reduction) {
  check(std::isfinite(beta) && beta >= 0, "smooth_l1_loss: beta ", beta, " must be 0 or more");
  const Tensor d = distance("smooth_l1_loss", x, target);
  return ops::reduced(beta == 0 ? d : affine(huber(d, beta), 1 / beta), reduction);
}

}  // namespace weft
