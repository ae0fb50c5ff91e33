#include "weft/engine/ops/class_loss.h"

#include <cmath>
#include <limits>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/loss_helpers.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/select.h"

namespace weft {
namespace {

/// p log_q, where p = 0 counts nothing even if log_q = -inf: there log_q is cut off at the lowest number of
/// its type. Unlike weighted() it has its gradient in p there, too.
Tensor log_term(const Tensor& p, const Tensor& log_q) {
  const double lowest = log_q.dtype() == DType::f64 ? std::numeric_limits<double>::lowest()
                                                    : double(std::numeric_limits<float>::lowest());
  const Tensor least = Tensor::scalar(lowest, log_q.dtype(), log_q.device());
  return mul(p, where(eq(p, 0.0), maximum(log_q, least), log_q));
}

}  // namespace

Tensor one_hot(const Tensor& labels, int64_t classes, DType dtype) {
  check(is_floating(dtype), "one_hot: dtype ", dtype, " is not a floating one");
  return ops::one_hot_rows("one_hot", labels, classes).to(dtype);
}

Tensor nll_loss(const Tensor& x, const Tensor& labels, const NllLossOptions& options) {
  check(labels.dtype() == DType::i64, "nll_loss: labels are i64, not ", labels.dtype());
  const Tensor log_p = ops::widened(x);
  const ops::ClassTargets aim("nll_loss", log_p, labels,
                              {.weight = options.weight, .ignore_index = options.ignore_index});
  const Tensor loss = neg(sum(ops::weighted(aim.t, log_p), {1}));
  return options.reduction == Reduction::mean ? aim.mean_of(sum(loss))
                                              : ops::reduced(loss, options.reduction);
}

Tensor kl_div(const Tensor& input, const Tensor& target, const KlDivOptions& options) {
  ops::check_same_shape("kl_div", input, target);
  const Tensor x = ops::widened(input), t = cast(target, x.dtype());
  const Tensor p = options.log_target ? exp(t) : t;
  // Two products, as either probability may be 0. The logarithm of the least float is near enough to that of
  // 0 in a term that is 0, and has a slope.
  const Tensor least = Tensor::scalar(std::numeric_limits<float>::min(), x.dtype(), x.device());
  const Tensor log_t = options.log_target ? t : log(maximum(t, least));
  return ops::reduced(sub(log_term(p, log_t), log_term(p, x)), options.reduction);
}

Tensor softmax_focal_loss(const Tensor& logits, const Tensor& target, const SoftmaxFocalOptions& options) {
  check(std::isfinite(options.gamma) && options.gamma >= 0, "softmax_focal_loss: gamma ", options.gamma,
        " must be 0 or more");
  const Tensor x = ops::widened(logits);
  const ops::ClassTargets aim("softmax_focal_loss", x, target,
                              {.label_smoothing = options.label_smoothing, .weight = options.weight});
  const Tensor log_p = log_softmax(x);
  Tensor terms = ops::weighted(aim.t, log_p);
  // Through the factor goes p log p at most, which is 0 for p = 0; cut off there, it isn't 0 times inf.
  const Tensor least = Tensor::scalar(std::log(std::numeric_limits<float>::min()), x.dtype(), x.device());
  if (options.gamma != 0)
    terms = mul(terms, ops::focal_factor(1 - exp(maximum(log_p, least)), options.gamma));
  return ops::reduced(neg(sum(terms, {1})), options.reduction);
}

}  // namespace weft
