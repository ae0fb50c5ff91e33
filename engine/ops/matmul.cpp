#include "weft/engine/ops/matmul.h"

#include "weft/engine/anomaly.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/trace.h"

namespace weft {
namespace {

using kernels::GemmParams;

/// y = factor x, where y may be x; its values do not matter where the factor is 0.
void scale(const char* op, double factor, const Tensor& x, const Tensor& y) {
  if (factor == 0) return y.fill(0);
  if (factor == 1) return y.copy_from(x);
  dispatch(op, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.affine(x.numel(), kernels::Wide<T>(factor), 0, x.data<T>(), y.data<T>());
  });
}

/// op(a) op(b) of matrices [.., .] or batches [b, ., .]; one matrix serves a whole batch. With `onto` it is
/// beta onto + alpha op(a) op(b), in onto's place where nobody else holds that. Not recorded.
Tensor multiply(const char* op, const Tensor& a, const Tensor& b, const MatmulOptions& how, Tensor onto = {},
                const BaddbmmOptions& options = {}) {
  const bool ta = how.transpose_a, tb = how.transpose_b;
  ops::check_same_dtype(op, a, b);
  const int64_t m = a.size(ta ? -1 : -2), ka = a.size(ta ? -2 : -1), kb = b.size(tb ? -1 : -2),
                n = b.size(tb ? -2 : -1);
  check(ka == kb, op, ": inner sizes differ, ", ka, " against ", kb, " (a ", a.shape(),
        ta ? " transposed" : "", ", b ", b.shape(), tb ? " transposed" : "", ")");
  const bool batch_a = a.ndim() == 3, batch_b = b.ndim() == 3;
  const int64_t batch = batch_a ? a.size(0) : batch_b ? b.size(0) : 1;
  check(!batch_a || !batch_b || b.size(0) == batch, op, ": batch sizes differ (a ", a.shape(), ", b ",
        b.shape(), ")");

  const Shape shape = batch_a || batch_b ? Shape{batch, m, n} : Shape{m, n};
  const bool adds = onto.defined(), in_place = adds && onto.unique();
  if (adds) {
    ops::check_same_dtype(op, onto, a);
    check(onto.shape() == shape, op, ": the input ", onto.shape(), " does not fit a product of shape ",
          shape);
  }
  Tensor y = in_place ? onto : ops::empty(shape, a);
  if (y.numel() == 0) return y;
  if (ka == 0) {
    scale(op, adds ? options.beta : 0, adds ? onto : y, y);
    return y;
  }
  GemmParams p;
  p.m = m, p.n = n, p.k = ka, p.transpose_a = ta, p.transpose_b = tb, p.accumulate = adds;
  p.symmetric =
      m == n && (how.symmetric || (ta != tb && a.raw() == b.raw() && a.ndim() == b.ndim() && !adds));
  p.bf16 = ops::rounds_to_bf16(a);
  p.lda = a.size(-1), p.ldb = b.size(-1), p.ldc = n;
  p.batch = batch, p.stride_a = batch_a ? m * ka : 0, p.stride_b = batch_b ? kb * n : 0, p.stride_c = m * n;
  dispatch(op, a, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    using W = wide_type<decltype(k)>;
    const double beta = options.beta, alpha = options.alpha;
    Tensor left = a, right = b;
    if (adds && !(in_place && alpha == 1 && beta == 1)) {
      if (k.gemm_add)
        return k.gemm_add(p, W(alpha), a.data<T>(), b.data<T>(), W(beta), onto.data<T>(), y.data<T>());
      scale(op, beta, onto, y);
      Tensor& smaller = a.numel() < b.numel() ? left : right;
      if (alpha != 1) {
        const Tensor scaled = ops::empty_like(smaller);
        scale(op, alpha, smaller, scaled);
        smaller = scaled;
      }
    }
    k.gemm(p, left.data<T>(), right.data<T>(), y.data<T>());
  });
  return y;
}

Tensor product(const char* op, const Tensor& a, const Tensor& b, const MatmulOptions& how);

/// Gives input i of c, of this shape, the gradient op(a) op(b), added to what it has been given so far by the
/// same kernel.
void give_product(BackwardContext& c, int i, const Shape& shape, const char* op, const Tensor& a,
                  const Tensor& b, bool ta, bool tb) {
  if (!c.needs(i)) return;
  const bool one_for_all = shape.ndim() == 2 && (a.ndim() == 3 || b.ndim() == 3);
  Tensor sum = one_for_all ? Tensor() : c.take_sum(i);
  c.set(i, sum.defined() ? multiply(op, a, b, {ta, tb}, std::move(sum))
                         : ops::sum_to(product(op, a, b, {ta, tb}), shape));
}

/// Whether op(a) op(b) is X^T X or X X^T.
bool is_gram(const Tensor& a, const Tensor& b, bool ta, bool tb) {
  return ta != tb && a.variable() && a.variable() == b.variable();
}
/// m + m^T of a matrix or a batch of them.
Tensor with_transpose(const Tensor& m) {
  return m + permute(m, m.ndim() == 3 ? std::vector<int>{0, 2, 1} : std::vector<int>{1, 0});
}

Tensor product(const char* op, const Tensor& a, const Tensor& b, const MatmulOptions& how) {
  const bool ta = how.transpose_a, tb = how.transpose_b;
  const Tensor y = multiply(op, a, b, how);
  // y = A B with A = op(a), B = op(b): dA = dy B^T, dB = A^T dy; a transposed operand takes the transposed
  // product.
  record(op, {a, b}, {y},
         [=](BackwardContext& c) {
           const Tensor& dy = c.grad_output();
           // Of a Gram matrix both parts are one product: dX = X (dy + dy^T), or (dy + dy^T) X.
           if (is_gram(a, b, ta, tb)) {
             const Tensor both = with_transpose(dy);
             return ta ? give_product(c, 0, a.shape(), op, a, both, false, false)
                       : give_product(c, 0, a.shape(), op, both, a, false, false);
           }
           if (ta)
             give_product(c, 0, a.shape(), op, b, dy, tb, true);
           else
             give_product(c, 0, a.shape(), op, dy, b, false, !tb);
           if (tb)
             give_product(c, 1, b.shape(), op, dy, a, true, ta);
           else
             give_product(c, 1, b.shape(), op, a, dy, !ta, false);
         },
         {.detail = Tape::current() && (ta || tb) ? concat(ta ? "a^T " : "", tb ? "b^T" : "") : "",
          .multiply_adds = y.numel() * a.size(ta ? -2 : -1),
          .double_backward = true,
          .told = Trace::note(how)});
  return y;
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  check(a.ndim() == 2 && b.ndim() == 2, "matmul: expected two matrices, got ", a.shape(), " and ", b.shape(),
        "; use bmm for batches");
  return product("matmul", a, b, options);
}

Tensor bmm(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  check((a.ndim() == 3 || b.ndim() == 3) && a.ndim() >= 2 && b.ndim() >= 2 && a.ndim() <= 3 && b.ndim() <= 3,
        "bmm: expected [b, m, k] and [b, k, n] (one side may be a single matrix), got ", a.shape(), " and ",
        b.shape());
  return product("bmm", a, b, options);
}

// y = beta input + alpha A B: dinput = beta dy, dA = alpha dy B^T, dB = alpha A^T dy.
Tensor baddbmm(const Tensor& input, const Tensor& a, const Tensor& b, const BaddbmmOptions& options) {
  check(a.ndim() >= 2 && b.ndim() >= 2 && a.ndim() <= 3 && b.ndim() <= 3 && input.ndim() == 3,
        "baddbmm: expected an input [b, m, n], [b, m, k] and [b, k, n] (one of the two may be a single "
        "matrix), got ",
        input.shape(), ", ", a.shape(), " and ", b.shape());
  const Tensor y = multiply("baddbmm", a, b, {.symmetric = options.symmetric}, input, options);
  record("baddbmm", {input, a, b}, {y},
         [=](BackwardContext& c) {
           const auto times = [&](double factor) {
             return factor == 1 ? c.grad_output() : affine(c.grad_output(), factor);
           };
           // First, so that dA is added to it where input and a are one.
           if (c.needs(0)) c.set(0, times(options.beta));
           const Tensor dy = times(options.alpha);
           give_product(c, 1, a.shape(), "bmm", dy, b, false, true);
           give_product(c, 2, b.shape(), "bmm", a, dy, true, false);
         },
         {.multiply_adds = y.numel() * a.size(-1), .double_backward = true});
  return y;
}

namespace {

/// linear() as the convolution that it is, of one row of pixels, by a packed weight; undefined where there is
/// none.
Tensor packed_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t rows,
                     PackedWeight& packed) {
  if (x.numel() == 0) return {};
  kernels::Conv2dParams p;
  p.in_w = rows, p.in_c = weight.size(1), p.out_c = weight.size(0);
  p.bf16 = ops::rounds_to_bf16(x);
  const Tensor form = packed.get(p, weight);
  if (!form.defined()) return {};
  Tensor y = ops::empty({rows, p.out_c}, x);
  kernels::cpu().conv2d_forward_packed(p, x.data<float>(), form.raw(),
                                       bias.defined() ? bias.data<float>() : nullptr, nullptr,
                                       y.data<float>());
  return y;
}

}  // namespace

// y = x W^T + b: dx = dy W, dW = dy^T x, db = column sums of dy.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedWeight* packed) {
  check(weight.ndim() == 2 && x.ndim() >= 1 && x.size(-1) == weight.size(1), "linear: input ", x.shape(),
        " does not fit weight ", weight.shape(), "; the last size must be ",
        weight.ndim() == 2 ? weight.size(1) : 0);
  check(!bias.defined() || bias.shape() == Shape{weight.size(0)}, "linear: bias ",
        bias.defined() ? bias.shape() : Shape{}, " does not fit weight ", weight.shape());
  const int64_t out = weight.size(0), rows = x.shape().numel(0, x.ndim() - 1);
  Shape shape = x.shape();
  shape.set(-1, out);
  const Tensor w = ops::compute_copy("linear", weight, x);
  const Tensor b = bias.defined() ? ops::compute_copy("linear", bias, x) : Tensor();
  Tensor y = packed ? packed_linear(x, w, b, rows, *packed) : Tensor();
  if (!y.defined()) {
    y = multiply("linear", x.view({rows, x.size(-1)}), w, {.transpose_b = true});
    if (b.defined()) {
      const NoGrad quiet;
      const DetectAnomaly::Pause pause;
      y = add(y, b);
    }
  }
  y = y.view(shape);
  record("linear", {x, weight, bias}, {y},
         [=](BackwardContext& c) {
           const Tensor dy = ops::view_as(c.grad_output(), {rows, out});
           const Tensor wc = ops::recorded_copy(c, weight, w);
           if (c.needs(0)) c.set(0, ops::view_as(product("linear", dy, wc, {}), x.shape()));
           if (c.needs(1))
             c.set(1, product("linear", dy, ops::view_as(x, {rows, x.size(-1)}), {.transpose_a = true}));
           if (c.needs(2)) c.set(2, ops::sum_to(dy, {out}));
         },
         {.multiply_adds = rows * weight.numel(), .double_backward = true});
  return y;
}

}  // namespace weft
