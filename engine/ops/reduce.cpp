#include "weft/engine/ops/reduce.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/permuted.h"
#include "weft/engine/ops/select.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/trace.h"

namespace weft {
namespace {

using kernels::Reduce;

/// Which dimensions go, as flags; checks the list.
std::array<bool, Shape::kMaxDims> reduced(const char* op, const Shape& shape, const std::vector<int>& dims) {
  std::array<bool, Shape::kMaxDims> gone{};
  for (int i = 0; i < shape.ndim(); ++i) gone[size_t(i)] = dims.empty();
  for (int d : dims) {
    bool& flag = gone[size_t(shape.index(d, op))];
    check(!flag, op, ": dimension ", d, " is given twice");
    flag = true;
  }
  return gone;
}

/// Reduces x over `dims`, keeping them with size 1: one kernel call per run of neighbouring dimensions.
Tensor reduce_keepdim(const char* op, Reduce kind, const Tensor& x, const std::vector<int>& dims) {
  const auto gone = reduced(op, x.shape(), dims);
  Tensor y = x.detach();
  Shape shape = x.shape();
  for (int i = shape.ndim() - 1; i >= 0; --i) {
    if (!gone[size_t(i)]) continue;
    int first = i;
    while (first > 0 && gone[size_t(first - 1)]) --first;
    const int64_t outer = shape.numel(0, first), n = shape.numel(first, i + 1),
                  inner = shape.numel(i + 1, shape.ndim());
    check(n > 0 || kind == Reduce::sum, op, ": shape ", x.shape(), " has no elements to choose from");
    for (int j = first; j <= i; ++j) shape.set(j, 1);
    if (n != 1) {
      Tensor next = ops::empty(shape, x);
      dispatch(op, x, [&](const auto& k) {
        using T = kernel_type<decltype(k)>;
        k.reduce(kind, outer, n, inner, y.data<T>(), next.data<T>());
      });
      y = next;
    }
    i = first;
  }
  return y.is(x) || y.raw() == x.raw() ? y.clone().view(shape) : y;
}

Shape without(const Shape& shape, const char* op, const std::vector<int>& dims, bool keepdim) {
  const auto gone = reduced(op, shape, dims);
  Shape out;
  for (int i = 0; i < shape.ndim(); ++i) {
    if (!gone[size_t(i)])
      out.push_back(shape[i]);
    else if (keepdim)
      out.push_back(1);
  }
  return out;
}

/// y = op(a, b), both stretched to `shape`.
Tensor stretched(const char* name, kernels::Binary op, const Shape& shape, const Tensor& a, const Tensor& b) {
  const kernels::Broadcast how = ops::broadcast(shape, a.shape(), b.shape());
  Tensor y = ops::empty(shape, a);
  if (y.numel() > 0)
    dispatch(name, a, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      k.binary(op, how, a.data<T>(), b.data<T>(), y.data<T>());
    });
  return y;
}

std::any note_reduction(const std::vector<int>& dims, bool keepdim) {
  return Trace::current() ? Trace::note(TracedReduction{dims, keepdim}) : std::any();
}

Tensor extreme(const char* op, Reduce kind, const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  const Tensor m = reduce_keepdim(op, kind, x, dims);
  const Tensor y = m.view(without(x.shape(), op, dims, keepdim));
  // dx = dy / (number of equal extremes) where x is one of them.
  record(op, {x}, {y},
         [=, x = x.detach()](BackwardContext& c) {
           const Tensor mask = stretched(op, kernels::Binary::equal, x.shape(), x, m);
           const Tensor share =
               div(ops::view_as(c.grad_output(), m.shape()), reduce_keepdim(op, Reduce::sum, mask, dims));
           c.set(0, mul(mask, share));
         },
         {.double_backward = true, .told = note_reduction(dims, keepdim)});
  return y;
}

}  // namespace

namespace ops {
Tensor sum_to(Tensor g, const Shape& shape) {
  if (g.shape() == shape) return g;
  std::vector<int> dims;
  const int extra = g.ndim() - shape.ndim();
  for (int i = 0; i < g.ndim(); ++i)
    if (i < extra || (shape[i - extra] == 1 && g.size(i) != 1)) dims.push_back(i);
  if (!dims.empty()) g = sum(g, dims, true);
  return view_as(std::move(g), shape);
}

Tensor stretch(const char* name, const Tensor& g, const Shape& kept, const Shape& shape, double scale) {
  const Tensor y = stretched(name, kernels::Binary::mul, shape, g.view(kept),
                             Tensor::scalar(scale, g.dtype(), g.device()));
  record("stretch", {g}, {y},
         [=, from = g.shape()](BackwardContext& c) {
           const Tensor dy = sum_to(c.grad_output(), kept);
           c.set(0, view_as(scale == 1 ? dy : affine(dy, scale), from));
         },
         {.double_backward = true, .looks_back = false});
  return y;
}
}  // namespace ops

// y = sum x: dx = dy, stretched.
Tensor sum(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  const Tensor kept = reduce_keepdim("sum", Reduce::sum, x, dims);
  const Tensor y = kept.view(without(x.shape(), "sum", dims, keepdim));
  record("sum", {x}, {y},
         [shape = x.shape(), kept = kept.shape()](BackwardContext& c) {
           c.set(0, ops::stretch("sum", c.grad_output(), kept, shape));
         },
         {.double_backward = true, .looks_back = false, .told = note_reduction(dims, keepdim)});
  return y;
}

// y = sum x / n: dx = dy / n, stretched.
Tensor mean(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  // In f16 a sum may overflow where the mean does not.
  const bool narrow = x.dtype() == DType::f16 && x.device() == Device::cuda;
  const Tensor total = reduce_keepdim("mean", Reduce::sum, narrow ? x.detach().to(DType::f32) : x, dims);
  const double scale = double(total.numel()) / double(std::max<int64_t>(x.numel(), 1));
  check(x.numel() > 0 || total.numel() == 0, "mean: shape ", x.shape(), " has no elements");
  dispatch("mean", total, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    using W = wide_type<decltype(k)>;
    k.affine(total.numel(), W(scale), W(0), total.data<T>(), total.data<T>());
  });
  const Tensor y = total.to(x.dtype()).view(without(x.shape(), "mean", dims, keepdim));
  record("mean", {x}, {y},
         [=, shape = x.shape(), kept = total.shape()](BackwardContext& c) {
           c.set(0, ops::stretch("mean", c.grad_output(), kept, shape, scale));
         },
         {.double_backward = true, .looks_back = false, .told = note_reduction(dims, keepdim)});
  return y;
}

Tensor amax(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return extreme("amax", Reduce::max, x, dims, keepdim);
}
Tensor amin(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return extreme("amin", Reduce::min, x, dims, keepdim);
}

Tensor logsumexp(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  // Only a number to stay in range with: it cancels out, in the gradient too.
  Tensor most = reduce_keepdim("logsumexp", Reduce::max, x.detach(), dims);
  most = where(lt(abs(most), std::numeric_limits<double>::infinity()), most, 0.0);
  const Tensor y = add(log(sum(exp(sub(x, most)), dims, true)), most);
  return keepdim ? y : ops::view_as(y, without(x.shape(), "logsumexp", dims, false));
}

Tensor var(const Tensor& x, const std::vector<int>& dims, bool keepdim, double correction) {
  const Tensor y = mean(square(sub(x, mean(x, dims, true))), dims, keepdim);
  const double n = double(x.numel()) / double(std::max<int64_t>(y.numel(), 1));
  return correction == 0 ? y : affine(y, n / std::max(0.0, n - correction));
}
Tensor std(const Tensor& x, const std::vector<int>& dims, bool keepdim, double correction) {
  return sqrt(var(x, dims, keepdim, correction));
}

namespace {
Tensor argmax(const char* op, const Tensor& x, int dim) {
  const int d = x.shape().index(dim, op);
  check(x.size(d) > 0, op, ": shape ", x.shape(), " has nothing to choose from in dimension ", dim);
  Shape shape;
  std::vector<int> order;
  for (int i = 0; i < x.ndim(); ++i)
    if (i != d) shape.push_back(x.size(i)), order.push_back(i);
  order.push_back(d);
  const Tensor rows = d + 1 == x.ndim() ? x : ops::permuted(x, order);
  const Tensor y = Tensor::empty(shape, DType::i64, x.device());
  dispatch(op, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.argmax(y.numel(), x.size(d), rows.data<T>(), y.data<int64_t>());
  });
  return y;
}

/// cumsum(), or from the other end.
Tensor running_sum(const Tensor& x, int dim, bool reverse) {
  const int d = x.shape().index(dim, "cumsum");
  const Tensor y = ops::empty_like(x);
  dispatch("cumsum", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.cumsum(x.shape().numel(0, d), x.size(d), x.shape().numel(d + 1, x.ndim()), reverse, x.data<T>(),
             y.data<T>());
  });
  record("cumsum", {x}, {y}, [=](BackwardContext& c) { c.set(0, running_sum(c.grad_output(), d, !reverse)); },
         {.detail = Tape::current() ? concat("dim ", d, reverse ? " from the end" : "") : "",
          .double_backward = true,
          .looks_back = false});
  return y;
}
}  // namespace

Tensor argmax(const Tensor& x, int dim) { return argmax("argmax", x, dim); }
Tensor argmin(const Tensor& x, int dim) {
  const NoGrad none;
  return argmax("argmin", neg(x), dim);
}

Tensor cumsum(const Tensor& x, int dim) { return running_sum(x, dim, false); }

}  // namespace weft
