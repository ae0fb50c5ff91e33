#include "weft/engine/ops/spectral_norm.h"

#include <utility>

#include "weft/engine/checkpoint.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"

namespace weft {
namespace {

/// The weight as it lies, and the vectors of its rows and columns.
struct Matrix {
  int64_t rows, cols;
  Tensor left, right;
};

Matrix matrix_of(const Tensor& weight, const Tensor& u, const Tensor& v, bool outputs_last) {
  const int n = weight.ndim();
  check(n >= 2 && weight.numel() > 0, "spectral_norm: expected a weight of two dimensions or more, got ",
        weight.shape());
  Matrix m = outputs_last ? Matrix{weight.shape().numel(0, n - 1), weight.size(-1), v, u}
                          : Matrix{weight.size(0), weight.shape().numel(1, n), u, v};
  check(m.left.shape() == Shape{m.rows} && m.right.shape() == Shape{m.cols}, "spectral_norm: u ", u.shape(),
        " and v ", v.shape(), " don't fit the weight ", weight.shape(), "; expected [",
        outputs_last ? m.cols : m.rows, "] and [", outputs_last ? m.rows : m.cols, "]");
  ops::check_same_dtype("spectral_norm", weight, u);
  ops::check_same_dtype("spectral_norm", weight, v);
  return m;
}

}  // namespace

// With y = W / sigma and dsigma = u v^T: dW = (dy - u v^T sum(dy y)) / sigma.
Tensor spectral_norm(const Tensor& weight, const Tensor& u, const Tensor& v, const SpectralNormOptions& o) {
  const Matrix m = matrix_of(weight, u, v, o.outputs_last);
  const Tensor y = ops::empty_like(weight),
               sigma = Tensor::empty({1}, ops::wide_dtype(weight.dtype()), weight.device());
  // Copies of left and right, because the next forward overwrites them, maybe before this one's backward has
  // used them.
  const auto forward = [&](const Tensor& left, const Tensor& right, int iterations) {
    std::pair now(ops::empty_like(left), ops::empty_like(right));
    dispatch("spectral_norm", weight, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      using W = wide_type<decltype(k)>;
      kernels::SpectralNormArgs<T> a;
      a.rows = m.rows, a.cols = m.cols, a.w = weight.data<T>();
      a.iterations = iterations, a.left_first = o.outputs_last, a.eps = o.eps;
      k.spectral_norm_forward(a, left.data<T>(), right.data<T>(), now.first.data<T>(), now.second.data<T>(),
                              sigma.data<W>(), y.data<T>());
    });
    return now;
  };
  check(o.n_power_iterations >= 0, "spectral_norm: n_power_iterations is ", o.n_power_iterations,
        ", not 0 or more");
  bool done = false;
  const auto [left, right] = once([&] {
    done = true;
    return forward(m.left, m.right, o.n_power_iterations);
  });
  if (!done) forward(left, right, 0);

  auto backward = [=, left = left, right = right](BackwardContext& c) {
    const Tensor& dy = c.grad_output();
    if (c.create_graph()) {
      const Shape shape{left.numel(), right.numel()};
      const Tensor column = left.view({left.numel(), 1}), row = right.view({1, right.numel()});
      const Tensor w = ops::view_as(weight, shape), g = ops::view_as(dy, shape);
      const Tensor s = sum(column * matmul(w, row, {.transpose_b = true}));
      const Tensor dw = (g - matmul(column, row) * sum(g * (w / s))) / s;
      return c.set(0, ops::view_as(dw, weight.shape()));
    }
    const Tensor dw = dy.unique() ? dy : ops::empty_like(dy);
    dispatch("spectral_norm", weight, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      using W = wide_type<decltype(k)>;
      k.spectral_norm_backward(left.numel(), right.numel(), left.data<T>(), right.data<T>(), sigma.data<W>(),
                               y.data<T>(), dy.data<T>(), dw.data<T>());
    });
    c.set(0, dw);
  };
  record("spectral_norm", {weight}, {y}, std::move(backward),
         {.multiply_adds = weight.numel(), .double_backward = true});
  return y;
}

}  // namespace weft
