#include "weft/engine/ops/binary_loss.h"

#include <cmath>

#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss_helpers.h"

namespace weft {
namespace {

/// softplus(x) = -log sigmoid(-x) and logsigmoid are each right at both ends, where their difference x would
/// lose the small one.
Tensor losses(const Tensor& x, const Tensor& y, const Tensor& pos_weight) {
  const Tensor yes = mul(y, activation(x, Activation::logsigmoid));
  return sub(mul(1 - y, softplus(x)), pos_weight.defined() ? mul(yes, pos_weight) : yes);
}

void check_operands(const char* op, const Tensor& x, const Tensor& target) {
  ops::check_same_shape(op, x, target);
  check(is_floating(target.dtype()), op, ": the target is ", target.dtype(),
        ", but must be probabilities; one_hot() makes them of labels");
}

/// A weight in the logits' type; it may not enlarge them.
Tensor weight_for(const char* name, const Tensor& weight, const Tensor& x) {
  constexpr const char* op = "binary_cross_entropy_with_logits";
  if (!weight.defined()) return {};
  ops::check_same_device(op, x, weight);
  const int extra = x.ndim() - weight.ndim();
  bool fits = extra >= 0;
  for (int i = 0; fits && i < weight.ndim(); ++i)
    fits = weight.size(i) == 1 || weight.size(i) == x.size(extra + i);
  check(fits, op, ": ", name, " ", weight.shape(), " does not stretch to the logits' ", x.shape());
  return cast(weight, x.dtype());
}

}  // namespace

Tensor binary_cross_entropy_with_logits(const Tensor& input, const Tensor& target,
                                        const BinaryCrossEntropyOptions& options) {
  check_operands("binary_cross_entropy_with_logits", input, target);
  const Tensor x = ops::widened(input), y = cast(target, x.dtype());
  const Tensor loss = losses(x, y, weight_for("pos_weight", options.pos_weight, x)),
               weight = weight_for("weight", options.weight, x);
  return ops::reduced(weight.defined() ? mul(loss, weight) : loss, options.reduction);
}

Tensor sigmoid_focal_loss(const Tensor& input, const Tensor& target, const SigmoidFocalOptions& options) {
  check_operands("sigmoid_focal_loss", input, target);
  check(options.alpha <= 1, "sigmoid_focal_loss: alpha ", options.alpha,
        " must be between 0 and 1, or negative for no such weights");
  check(std::isfinite(options.gamma) && options.gamma >= 0, "sigmoid_focal_loss: gamma ", options.gamma,
        " must be 0 or more");
  const Tensor x = ops::widened(input), y = cast(target, x.dtype()), no = 1 - y;
  Tensor loss = losses(x, y, {});
  if (options.gamma != 0) {
    // 1 - p_t as a sum of what is small where it is.
    const Tensor missing = add(mul(sigmoid(x), no), mul(sigmoid(neg(x)), y));
    loss = mul(loss, ops::focal_factor(missing, options.gamma));
  }
  if (options.alpha >= 0) loss = mul(loss, affine(y, 2 * options.alpha - 1, 1 - options.alpha));
  return ops::reduced(loss, options.reduction);
}

}  // namespace weft
