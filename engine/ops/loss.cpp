#include "weft/engine/ops/loss.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/reduce.h"

namespace weft {
namespace {

/// softmax and log_softmax: their backward works on the output alone.
template <class Forward, class Backward>
Tensor rowwise(const char* name, const Tensor& x, Forward forward, Backward backward) {
  check(x.ndim() >= 1 && x.size(-1) > 0, name, ": shape ", x.shape(), " has no last dimension");
  const int64_t cols = x.size(-1), rows = x.numel() / cols;
  Tensor y = ops::empty_like(x);
  dispatch(name, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    forward(k)(rows, cols, x.data<T>(), y.data<T>());
  });
  record(
      name, {x}, {y}, !recording({&x}) ? BackwardFunction() : [=, y = y.detach()](BackwardContext& c) {
        Tensor dx = ops::empty_like(y);
        dispatch(name, y, [&](const auto& k) {
          using T = kernel_type<decltype(k)>;
          backward(k)(rows, cols, y.data<T>(), c.grad_output().data<T>(), dx.data<T>());
        });
        c.set(0, dx);
      });
  return y;
}

/// Labels or probabilities as smoothed probabilities of the logits' shape and dtype.
Tensor target_distribution(const Tensor& logits, const Tensor& target, double smoothing) {
  const int64_t rows = logits.size(0), classes = logits.size(1);
  Tensor t = Tensor::full(logits.shape(), smoothing / double(classes), logits.dtype());
  if (target.dtype() == DType::i64) {
    check(target.shape() == Shape{rows}, "cross_entropy: labels have shape ", target.shape(),
          " but the logits are ", logits.shape(), "; expected [", rows, "]");
    dispatch("cross_entropy", logits, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t label = target.data<int64_t>()[r];
        check(label >= 0 && label < classes, "cross_entropy: label ", label, " of row ", r,
              " is not one of the ", classes, " classes of the logits ", logits.shape());
        t.data<T>()[r * classes + label] += T(1 - smoothing);
      }
    });
    return t;
  }
  check(target.shape() == logits.shape() && target.dtype() == logits.dtype(), "cross_entropy: the target is ",
        target.dtype(), " ", target.shape(), "; expected i64 labels [", rows,
        "] or probabilities of the logits' ", logits.dtype(), " ", logits.shape());
  return add(t, affine(target.detach(), 1 - smoothing));
}

}  // namespace

// y = e^x / sum e^x: dx = y (dy - sum y dy).
Tensor softmax(const Tensor& x) {
  return rowwise(
      "softmax", x, [](const auto& k) { return k.softmax; },
      [](const auto& k) { return k.softmax_backward; });
}

// y = x - log sum e^x: dx = dy - e^y sum dy.
Tensor log_softmax(const Tensor& x) {
  return rowwise(
      "log_softmax", x, [](const auto& k) { return k.log_softmax; },
      [](const auto& k) { return k.log_softmax_backward; });
}

// loss = -1/N sum_rc t_rc log p_rc: the log softmax's backward with dlogp = -t / N.
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  check(logits.ndim() == 2 && logits.numel() > 0, "cross_entropy: expected non-empty logits [N, C], got ",
        logits.shape());
  check(options.label_smoothing >= 0 && options.label_smoothing <= 1, "cross_entropy: label_smoothing ",
        options.label_smoothing, " must be between 0 and 1");
  const int64_t rows = logits.size(0), classes = logits.size(1);
  Tensor weights, log_p = ops::empty_like(logits), loss = Tensor::empty({}, logits.dtype());
  {
    const NoGrad quiet;
    weights = target_distribution(logits, target, options.label_smoothing);
  }
  dispatch("cross_entropy", logits, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.log_softmax(rows, classes, logits.data<T>(), log_p.data<T>());
    double total = 0;
    for (int64_t i = 0; i < weights.numel(); ++i)
      if (weights.data<T>()[i] != 0) total -= double(weights.data<T>()[i]) * double(log_p.data<T>()[i]);
    *loss.data<T>() = T(total / double(rows));
  });
  record(
      "cross_entropy", {logits}, {loss},
      !recording({&logits}) ? BackwardFunction() : [=](BackwardContext& c) {
        Tensor dx = ops::empty_like(log_p);
        dispatch("cross_entropy", log_p, [&](const auto& k) {
          using T = kernel_type<decltype(k)>;
          k.affine(weights.numel(), T(-c.grad_output().item() / double(rows)), T(0), weights.data<T>(),
                   dx.data<T>());
          k.log_softmax_backward(rows, classes, log_p.data<T>(), dx.data<T>(), dx.data<T>());
        });
        c.set(0, dx);
      });
  return loss;
}

Tensor mse_loss(const Tensor& x, const Tensor& target) {
  check(x.shape() == target.shape(), "mse_loss: input ", x.shape(), " and target ", target.shape(),
        " must have one shape");
  return mean(square(sub(x, target)));
}

}  // namespace weft
