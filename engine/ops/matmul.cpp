#include "weft/engine/ops/matmul.h"

#include "weft/engine/anomaly.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"

namespace weft {
namespace {

using kernels::GemmParams;

/// op(a) op(b) of matrices [.., .] or batches [b, ., .]; one matrix serves a whole batch. Not recorded.
Tensor multiply(const char* op, const Tensor& a, const Tensor& b, bool ta, bool tb) {
  ops::check_same_dtype(op, a, b);
  const int64_t m = a.size(ta ? -1 : -2), ka = a.size(ta ? -2 : -1), kb = b.size(tb ? -1 : -2),
                n = b.size(tb ? -2 : -1);
  check(ka == kb, op, ": inner sizes differ, ", ka, " against ", kb, " (a ", a.shape(),
        ta ? " transposed" : "", ", b ", b.shape(), tb ? " transposed" : "", ")");
  const bool batch_a = a.ndim() == 3, batch_b = b.ndim() == 3;
  const int64_t batch = batch_a ? a.size(0) : batch_b ? b.size(0) : 1;
  check(!batch_a || !batch_b || b.size(0) == batch, op, ": batch sizes differ (a ", a.shape(), ", b ",
        b.shape(), ")");

  Tensor y = ops::empty(batch_a || batch_b ? Shape{batch, m, n} : Shape{m, n}, a);
  if (y.numel() == 0) return y;
  if (ka == 0) {
    y.fill(0);
    return y;
  }
  GemmParams p;
  p.m = m, p.n = n, p.k = ka, p.transpose_a = ta, p.transpose_b = tb;
  p.lda = a.size(-1), p.ldb = b.size(-1), p.ldc = n;
  p.batch = batch, p.stride_a = batch_a ? m * ka : 0, p.stride_b = batch_b ? kb * n : 0, p.stride_c = m * n;
  dispatch(op, a, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.gemm(p, a.data<T>(), b.data<T>(), y.data<T>());
  });
  return y;
}

/// Sums a batch of gradients where the operand was one matrix used for all.
Tensor fit(const Tensor& g, const Shape& shape) { return ops::sum_to(g, shape); }

Tensor product(const char* op, const Tensor& a, const Tensor& b, bool ta, bool tb) {
  const Tensor y = multiply(op, a, b, ta, tb);
  // y = A B with A = op(a), B = op(b): dA = dy B^T, dB = A^T dy; a transposed operand takes the transposed
  // product.
  record(op, {a, b}, {y},
         !recording({&a, &b}) ? BackwardFunction()
                              : [=](BackwardContext& c) {
           const Tensor& dy = c.grad_output();
           if (c.needs(0)) c.set(0, fit(ta ? product(op, b, dy, tb, true) : product(op, dy, b, false, !tb), a.shape()));
           if (c.needs(1)) c.set(1, fit(tb ? product(op, dy, a, true, ta) : product(op, a, dy, !ta, false), b.shape()));
         },
         {.detail = Tape::current() && (ta || tb) ? concat(ta ? "a^T " : "", tb ? "b^T" : "") : "",
          .multiply_adds = y.numel() * a.size(ta ? -2 : -1), .double_backward = true});
  return y;
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  check(a.ndim() == 2 && b.ndim() == 2, "matmul: expected two matrices, got ", a.shape(), " and ", b.shape(),
        "; use bmm for batches");
  return product("matmul", a, b, options.transpose_a, options.transpose_b);
}

Tensor bmm(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  check((a.ndim() == 3 || b.ndim() == 3) && a.ndim() >= 2 && b.ndim() >= 2 && a.ndim() <= 3 && b.ndim() <= 3,
        "bmm: expected [b, m, k] and [b, k, n] (one side may be a single matrix), got ", a.shape(), " and ",
        b.shape());
  return product("bmm", a, b, options.transpose_a, options.transpose_b);
}

// y = x W^T + b: dx = dy W, dW = dy^T x, db = column sums of dy.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check(weight.ndim() == 2 && x.ndim() >= 1 && x.size(-1) == weight.size(1), "linear: input ", x.shape(),
        " does not fit weight ", weight.shape(), "; the last size must be ",
        weight.ndim() == 2 ? weight.size(1) : 0);
  check(!bias.defined() || bias.shape() == Shape{weight.size(0)}, "linear: bias ",
        bias.defined() ? bias.shape() : Shape{}, " does not fit weight ", weight.shape());
  const int64_t out = weight.size(0), rows = x.shape().numel(0, x.ndim() - 1);
  Shape shape = x.shape();
  shape.set(-1, out);
  const Tensor w = ops::compute_copy("linear", weight, x);
  Tensor y = multiply("linear", x.view({rows, x.size(-1)}), w, false, true);
  if (bias.defined()) {
    const NoGrad quiet;
    const DetectAnomaly::Pause pause;
    y = add(y, ops::compute_copy("linear", bias, x));
  }
  y = y.view(shape);
  record("linear", {x, weight, bias}, {y},
         !recording({&x, &weight, &bias}) ? BackwardFunction() : [=](BackwardContext& c) {
           const Tensor dy = ops::view_as(c.grad_output(), {rows, out});
           const Tensor wc = ops::recorded_copy(c, weight, w);
           if (c.needs(0)) c.set(0, ops::view_as(product("linear", dy, wc, false, false), x.shape()));
           if (c.needs(1))
             c.set(1, product("linear", dy, ops::view_as(x, {rows, x.size(-1)}), true, false));
           if (c.needs(2)) c.set(2, ops::sum_to(dy, {out}));
         },
         {.multiply_adds = rows * weight.numel(), .double_backward = true});
  return y;
}

}  // namespace weft
