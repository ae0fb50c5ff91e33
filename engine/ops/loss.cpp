#include "weft/engine/ops/loss.h"

#include <algorithm>
#include <vector>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/reduce.h"
#include "weft/kernels/parallel.h"

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

/// What cross entropy aims at: labels (a copy: the caller's batch may change before backward), or the
/// smoothed probabilities themselves.
struct Target {
  Tensor labels, probabilities;
  int64_t classes = 0;
  double smoothing = 0;  // share / classes everywhere, 1 - share at the label

  Target(const Tensor& logits, const Tensor& target, double share)
      : classes(logits.size(1)), smoothing(share) {
    const int64_t rows = logits.size(0);
    if (target.dtype() == DType::i64) {
      check(target.shape() == Shape{rows}, "cross_entropy: labels have shape ", target.shape(),
            " but the logits are ", logits.shape(), "; expected [", rows, "]");
      labels = target.detach().clone();
      for (int64_t r = 0; r < rows; ++r) {
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

  /// -sum t log p of row r. A class of no weight counts nothing, even where its log p is -inf.
  template <class T>
  double loss(int64_t r, const T* log_p) const {
    const auto term = [](double t, T lp) { return t != 0 ? t * double(lp) : 0.0; };
    if (labels.defined()) {
      const double share = smoothing / double(classes);
      const double all = share != 0 ? share * sum([=](int64_t c) { return double(log_p[c]); }) : 0;
      return -(all + term(1 - smoothing, log_p[labels.data<int64_t>()[r]]));
    }
    const T* t = probabilities.data<T>() + r * classes;
    return -sum([=](int64_t c) { return term(double(t[c]), log_p[c]); });
  }

  /// out = scale * t for row r.
  template <class T>
  void scaled(int64_t r, double scale, T* out) const {
    if (labels.defined()) {
      std::fill(out, out + classes, T(scale * smoothing / double(classes)));
      out[labels.data<int64_t>()[r]] += T(scale * (1 - smoothing));
      return;
    }
    const T* t = probabilities.data<T>() + r * classes;
    for (int64_t c = 0; c < classes; ++c) out[c] = T(scale) * t[c];
  }

 private:
  /// The sum of f over the classes, in four chains of additions.
  template <class F>
  double sum(F f) const {
    double sums[4] = {};
    int64_t c = 0;
    for (; c + 4 <= classes; c += 4)
      for (int i = 0; i < 4; ++i) sums[i] += f(c + i);
    for (; c < classes; ++c) sums[0] += f(c);
    return sums[0] + sums[1] + (sums[2] + sums[3]);
  }
};

/// Calls f(first, count) for blocks of rows that stay in the cache between the passes over them.
template <class F>
void each_block(int64_t rows, int64_t classes, F f) {
  kernels::parallel_ranges(rows, std::max<int64_t>(1, (16 << 10) / classes),
                           [&](int64_t begin, int64_t end) { f(begin, end - begin); });
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
  const Target aim(logits, target, options.label_smoothing);
  Tensor log_p = ops::empty_like(logits), loss = Tensor::empty({}, logits.dtype());
  dispatch("cross_entropy", logits, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    const T* x = logits.data<T>();
    T* lp = log_p.data<T>();
    std::vector<double> losses(static_cast<size_t>(rows));
    each_block(rows, classes, [&](int64_t first, int64_t count) {
      k.log_softmax(count, classes, x + first * classes, lp + first * classes);
      for (int64_t r = first; r < first + count; ++r) losses[size_t(r)] = aim.loss(r, lp + r * classes);
    });
    double total = 0;
    for (double row : losses) total += row;
    *loss.data<T>() = T(total / double(rows));
  });
  record(
      "cross_entropy", {logits}, {loss},
      !recording({&logits}) ? BackwardFunction() : [=](BackwardContext& c) {
        Tensor dx = ops::empty_like(log_p);
        dispatch("cross_entropy", log_p, [&](const auto& k) {
          using T = kernel_type<decltype(k)>;
          const double scale = -c.grad_output().item() / double(rows);
          const T* lp = log_p.data<T>();
          T* out = dx.data<T>();
          each_block(rows, classes, [&](int64_t first, int64_t count) {
            for (int64_t r = first; r < first + count; ++r) aim.scaled(r, scale, out + r * classes);
            T* block = out + first * classes;
            k.log_softmax_backward(count, classes, lp + first * classes, block, block);
          });
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
