#include "weft/engine/ops/loss.h"

#include <utility>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss_helpers.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/select.h"

namespace weft {
namespace {

/// softmax and log_softmax: their backward works on the output alone. `recorded` is the backward as recorded
/// ops.
template <class Forward, class Backward>
Tensor rowwise(const char* name, const Tensor& x, Forward forward, Backward backward,
               Tensor (*recorded)(const Tensor& y, const Tensor& dy)) {
  check(x.ndim() >= 1 && x.size(-1) > 0, name, ": shape ", x.shape(), " has no last dimension");
  const int64_t cols = x.size(-1), rows = x.numel() / cols;
  Tensor y = ops::empty_like(x);
  dispatch(name, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    forward(k)(rows, cols, x.data<T>(), y.data<T>());
  });
  record(name, {x}, {y},
         [=](BackwardContext& c) {
           if (c.create_graph()) return c.set(0, recorded(y, c.grad_output()));
           Tensor dx = ops::empty_like(y);
           dispatch(name, y, [&](const auto& k) {
             using T = kernel_type<decltype(k)>;
             backward(k)(rows, cols, y.data<T>(), c.grad_output().data<T>(), dx.data<T>());
           });
           c.set(0, std::move(dx));
         },
         {.double_backward = true});
  return y;
}

/// What cross entropy aims at: labels (a copy: the caller's batch may change before backward), or the
/// smoothed probabilities themselves.
struct Target {
  Tensor labels, probabilities;
  double smoothing;

  Target(const Tensor& logits, const Tensor& target, double share) : smoothing(share) {
    const int64_t rows = logits.size(0), classes = logits.size(1);
    ops::check_same_device("cross_entropy", logits, target);
    if (target.dtype() == DType::i64) {
      check(target.shape() == Shape{rows}, "cross_entropy: labels have shape ", target.shape(),
            " but the logits are ", logits.shape(), "; expected [", rows, "]");
      labels = target.detach().clone();
      // Labels on a GPU are not looked at here, which would wait for it; wrong ones make the loss NaN.
      for (int64_t r = 0; labels.device() == Device::cpu && r < rows; ++r) {
        const int64_t label = labels.data<int64_t>()[r];
        check(label >= 0 && label < classes, "cross_entropy: label ", label, " of row ", r,
              " is not one of the ", classes, " classes of the logits ", logits.shape());
      }
      return;
    }
    check(target.shape() == logits.shape() && target.dtype() == logits.dtype(),
          "cross_entropy: the target is ", target.dtype(), " ", target.shape(), "; expected i64 labels [",
          rows, "] or probabilities of the logits' ", logits.dtype(), " ", logits.shape());
    const NoGrad quiet;
    probabilities = affine(target.detach(), 1 - smoothing, smoothing / double(classes));
  }

  /// The probabilities, made from the labels where those were given.
  Tensor dense(const Tensor& logits) const {
    if (probabilities.defined()) return probabilities;
    return ops::ClassTargets("cross_entropy", logits, labels, {.label_smoothing = smoothing}).t;
  }

  template <class T>
  kernels::CrossEntropyArgs<T> arguments(const Tensor& logits) const {
    kernels::CrossEntropyArgs<T> a;
    a.rows = logits.size(0), a.classes = logits.size(1), a.logits = logits.data<T>(), a.smoothing = smoothing;
    if (labels.defined())
      a.labels = labels.data<int64_t>();
    else
      a.probabilities = probabilities.data<T>();
    return a;
  }
};

}  // namespace

// y = e^x / sum e^x: dx = y (dy - sum y dy).
Tensor softmax(const Tensor& x) {
  return rowwise(
      "softmax", x, [](const auto& k) { return k.softmax; }, [](const auto& k) { return k.softmax_backward; },
      [](const Tensor& y, const Tensor& dy) { return y * (dy - sum(y * dy, {-1}, true)); });
}

// y = x - log sum e^x: dx = dy - e^y sum dy.
Tensor log_softmax(const Tensor& x) {
  return rowwise(
      "log_softmax", x, [](const auto& k) { return k.log_softmax; },
      [](const auto& k) { return k.log_softmax_backward; },
      [](const Tensor& y, const Tensor& dy) { return dy - exp(y) * sum(dy, {-1}, true); });
}

// With T for everything that weighs the terms, loss = -sum_rc T_rc log p_rc over a number: the plain loss of
// the target T, and a factor.
static Tensor weighted_cross_entropy(const Tensor& x, const Tensor& target, const CrossEntropyOptions& o) {
  const ops::ClassTargets aim("cross_entropy", x, target, {o.label_smoothing, o.weight, o.ignore_index});
  // What is ignored may be no number, and 0 times that is none either.
  const Tensor logits = aim.empty.defined() ? masked_fill(x, aim.empty, 0) : x;
  if (o.reduction == Reduction::none) return neg(sum(ops::weighted(aim.t, log_softmax(logits)), {1}));
  const Tensor loss = cross_entropy(logits, aim.t);
  const double rows = double(logits.size(0));
  if (o.reduction == Reduction::sum) return affine(loss, rows);
  return o.reduction == Reduction::mean ? aim.mean_of(affine(loss, rows)) : loss;
}

// loss = -1/N sum_rc t_rc log p_rc: dx = 1/N (e^log_p sum_c t - t).
Tensor cross_entropy(const Tensor& x, const Tensor& target, const CrossEntropyOptions& options) {
  check(x.ndim() == 2 && x.numel() > 0, "cross_entropy: expected non-empty logits [N, C], got ", x.shape());
  check(options.label_smoothing >= 0 && options.label_smoothing <= 1, "cross_entropy: label_smoothing ",
        options.label_smoothing, " must be between 0 and 1");
  const Tensor logits = ops::widened(x);
  if (options.weight.defined() || options.ignore_index || options.reduction != Reduction::mean)
    return weighted_cross_entropy(logits, target, options);
  const Target aim(logits, target, options.label_smoothing);
  Tensor log_p = ops::empty_like(logits), loss = ops::empty({}, logits);
  dispatch("cross_entropy", logits, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.cross_entropy_forward(aim.arguments<T>(logits), log_p.data<T>(), loss.data<T>());
  });
  record("cross_entropy", {logits}, {loss},
         [=, variable = logits.variable()](BackwardContext& c) {
           if (c.create_graph()) {
             // log_p is the logits but for a constant in each row, which softmax does not see: it can stand
             // for them.
             const Tensor z = log_p.detach(), t = aim.dense(log_p);
             z.set_variable(variable);
             return c.set(0, (softmax(z) * sum(t, {-1}, true) - t) * (c.grad_output() / double(z.size(0))));
           }
           Tensor dx = ops::empty_like(log_p);
           dispatch("cross_entropy", log_p, [&](const auto& k) {
             using T = kernel_type<decltype(k)>;
             k.cross_entropy_backward(aim.arguments<T>(log_p), log_p.data<T>(), c.grad_output().data<T>(),
                                      dx.data<T>());
           });
           c.set(0, std::move(dx));
         },
         {.double_backward = true});
  return loss;
}

Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  ops::check_same_shape("mse_loss", x, target);
  ops::check_same_dtype("mse_loss", x, target);
  return ops::reduced(square(sub(x, target)), reduction);
}

}  // namespace weft
