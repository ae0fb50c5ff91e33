#include "weft/engine/ops/loss_helpers.h"

#include <limits>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/select.h"
#include "weft/kernels/cuda/augment.h"

namespace weft::ops {

Tensor one_hot_rows(const char* op, const Tensor& labels, int64_t classes, std::optional<int64_t> allowed) {
  check(labels.dtype() == DType::i64, op, ": labels are i64, not ", labels.dtype());
  check(classes >= 1, op, ": there must be at least one class, not ", classes);
  Shape shape = labels.shape();
  shape.push_back(classes);
  const int64_t n = labels.numel(), *label = labels.data<int64_t>();
  if (labels.device() == Device::cuda) {
    const Tensor rows = Tensor::empty(shape, DType::f32, Device::cuda);
    kernels::cuda::mix_targets(n, classes, nullptr, label, rows.data<float>());
    return rows;
  }
  const Tensor rows = Tensor::zeros(shape);
  for (int64_t r = 0; r < n; ++r) {
    if (label[r] == allowed && (label[r] < 0 || label[r] >= classes)) continue;
    check(label[r] >= 0 && label[r] < classes, op, ": label ", label[r], " of row ", r, " is not one of the ",
          classes, " classes");
    rows.data<float>()[r * classes + label[r]] = 1;
  }
  return rows;
}

Tensor widened(const Tensor& x) { return cast(x, wide_dtype(x.dtype())); }

void check_same_shape(const char* op, const Tensor& x, const Tensor& target) {
  check(x.shape() == target.shape(), op, ": input ", x.shape(), " and target ", target.shape(),
        " must have one shape");
  check_same_device(op, x, target);
}

Tensor reduced(const Tensor& losses, Reduction reduction) {
  switch (reduction) {
    case Reduction::none:
      return losses;
    case Reduction::sum:
      return sum(losses);
    case Reduction::mean:
      return mean(losses);
    case Reduction::batchmean:
      break;
  }
  check(losses.ndim() >= 1 && losses.size(0) > 0, "reduction batchmean: losses ", losses.shape(),
        " have no first dimension to divide by");
  return affine(sum(losses), 1 / double(losses.size(0)));
}

Tensor weighted(const Tensor& t, const Tensor& log_p) { return mul(t, where(eq(t, 0.0), 0.0, log_p)); }

Tensor focal_factor(const Tensor& q, double gamma) {
  if (gamma == 0) return Tensor::ones(q.shape(), q.dtype(), q.device());
  if (gamma == 1) return q;
  if (gamma == 2) return square(q);
  const double least = q.dtype() == DType::f64 ? 1e-300 : 1e-36;
  return exp(affine(log(maximum(q, Tensor::scalar(least, q.dtype(), q.device()))), gamma));
}

ClassTargets::ClassTargets(const char* op, const Tensor& x, const Tensor& target,
                           const ClassTargetOptions& options) {
  check(x.ndim() == 2 && x.numel() > 0, op, ": expected a non-empty input [N, C], got ", x.shape());
  const int64_t rows = x.size(0), classes = x.size(1);
  const double eps = options.label_smoothing;
  check(eps >= 0 && eps <= 1, op, ": label_smoothing ", eps, " must be between 0 and 1");
  check_same_device(op, x, target);
  const NoGrad quiet;
  Tensor weight;
  if (options.weight.defined()) {
    check(options.weight.shape() == Shape{classes}, op, ": weight has shape ", options.weight.shape(),
          " but there are ", classes, " classes; expected [", classes, "]");
    check_same_device(op, x, options.weight);
    weight = options.weight.detach().to(x.dtype());
  }
  if (target.dtype() == DType::i64) {
    check(target.shape() == Shape{rows}, op, ": labels have shape ", target.shape(), " but the input is ",
          x.shape(), "; expected [", rows, "]");
    const auto ignored = options.ignore_index;
    Tensor hot = one_hot_rows(op, target, classes, ignored).to(x.dtype());
    if (ignored && *ignored >= 0 && *ignored < classes) {
      const Tensor label = Tensor::scalar(double(*ignored), DType::i64, x.device());
      hot = mul(hot, affine(one_hot_rows(op, label, classes).to(x.dtype()), -1, 1));
    }
    if (ignored) empty = eq(sum(hot, {1}, true), 0.0);
    total = sum(weight.defined() ? mul(hot, weight) : hot);
    t = hot;
    if (eps > 0) {
      const Tensor rest = affine(sum(hot, {1}, true), eps / double(classes));  // 0 where a row is ignored
      t = add(affine(hot, 1 - eps), rest);
    }
  } else {
    check(is_floating(target.dtype()) && target.shape() == x.shape(), op, ": the target is ", target.dtype(),
          " ", target.shape(), "; expected i64 labels [", rows, "] or probabilities of the input's shape ",
          x.shape());
    check(!options.ignore_index, op, ": ignore_index is for labels, but the target is probabilities");
    t = affine(target.detach().to(x.dtype()), 1 - eps, eps / double(classes));
    total = Tensor::scalar(double(rows), x.dtype(), x.device());
  }
  if (weight.defined()) t = mul(t, weight);
}

Tensor ClassTargets::mean_of(const Tensor& sum) const {
  const Tensor nothing = eq(total, 0.0);
  // Divided by 1 there, as 0 / 0 would be the gradient.
  return masked_fill(div(sum, masked_fill(total, nothing, 1)), nothing,
                     std::numeric_limits<double>::quiet_NaN());
}

}  // namespace weft::ops
