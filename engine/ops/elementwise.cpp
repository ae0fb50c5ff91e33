#include "weft/engine/ops/elementwise.h"

#include <algorithm>
#include <array>

#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/select.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/trace.h"

namespace weft {
namespace {

/// Size of dimension i of `s` if it is aligned at the right with a shape of ndim dimensions.
int64_t size_at(const Shape& s, int ndim, int i) {
  return i < ndim - s.ndim() ? 1 : s[i - (ndim - s.ndim())];
}

}  // namespace

Shape ops::broadcast_shape(const char* op, const Shape& a, const Shape& b) {
  Shape out;
  const int ndim = std::max(a.ndim(), b.ndim());
  for (int i = 0; i < ndim; ++i) {
    const int64_t na = size_at(a, ndim, i), nb = size_at(b, ndim, i);
    check(na == nb || na == 1 || nb == 1, op, ": shapes ", a, " and ", b, " do not broadcast (", na,
          " against ", nb, "); sizes must be equal or 1, aligned at the right");
    out.push_back(na == 1 ? nb : na);
  }
  return out;
}

kernels::Broadcast ops::broadcast(const Shape& out, const Shape& a, const Shape& b, const Shape& c) {
  // From the right: the size and the operands' strides, merged while all stay evenly strided.
  kernels::Broadcast r;
  const Shape* const shapes[] = {&a, &b, &c};
  std::array<int64_t, kernels::kMaxDims>* const strides[] = {&r.a_stride, &r.b_stride, &r.c_stride};
  int64_t step[] = {1, 1, 1};
  for (int i = out.ndim() - 1; i >= 0; --i) {
    int64_t stride[3];
    for (int k = 0; k < 3; ++k) {
      const int64_t n = size_at(*shapes[k], out.ndim(), i);
      stride[k] = n == 1 ? 0 : step[k];
      step[k] *= n;
    }
    if (out[i] == 1) continue;
    bool even = r.ndim > 0;
    const size_t last = size_t(std::max(r.ndim, 1) - 1);
    for (int k = 0; k < 3; ++k) even = even && stride[k] == (*strides[k])[last] * r.size[last];
    if (even) {
      r.size[last] *= out[i];
      continue;
    }
    const size_t next = size_t(r.ndim++);
    r.size[next] = out[i];
    for (int k = 0; k < 3; ++k) (*strides[k])[next] = stride[k];
  }
  if (r.ndim == 0) r.size[size_t(r.ndim++)] = out.numel();
  for (auto* list : {&r.size, &r.a_stride, &r.b_stride, &r.c_stride})
    std::reverse(list->begin(), list->begin() + r.ndim);
  return r;
}

namespace {

using kernels::Binary;
using kernels::Unary;
using ops::empty_like;
using ops::sum_to;

/// The forward of all binary ops, without recording.
Tensor compute(const char* name, Binary op, const Tensor& a, const Tensor& b) {
  ops::check_same_dtype(name, a, b);
  const Shape shape = ops::broadcast_shape(name, a.shape(), b.shape());
  const kernels::Broadcast how = ops::broadcast(shape, a.shape(), b.shape());
  Tensor y = ops::empty(shape, a);
  if (y.numel() == 0) return y;
  dispatch(name, a, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.binary(op, how, a.data<T>(), b.data<T>(), y.data<T>());
  });
  return y;
}

/// dy op'(x), by the kernel.
Tensor unary_backward(const char* name, Unary op, const Tensor& x, const Tensor& dy) {
  Tensor dx = empty_like(x);
  dispatch(name, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.unary_backward(op, x.numel(), x.data<T>(), dy.data<T>(), dx.data<T>());
  });
  return dx;
}

/// The same from x and dy as recorded ops, for a backward that is recorded.
using Slope = Tensor (*)(const Tensor& x, const Tensor& dy);

Tensor unary(const char* name, Unary op, const Tensor& x, Slope slope) {
  Tensor y = empty_like(x);
  dispatch(name, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.unary(op, x.numel(), x.data<T>(), y.data<T>());
  });
  record(name, {x}, {y},
         [=](BackwardContext& c) {
           c.set(0,
                 c.create_graph() ? slope(x, c.grad_output()) : unary_backward(name, op, x, c.grad_output()));
         },
         {.double_backward = true});
  return y;
}

/// maximum and minimum: dy goes where the operand was chosen, half to each where they are equal.
Tensor choose(const char* name, Binary op, const Tensor& a, const Tensor& b) {
  const Tensor y = compute(name, op, a, b);
  record(name, {a, b}, {y},
         [=](BackwardContext& c) {
           Tensor da = empty_like(y), db = empty_like(y);
           const auto widened = [&](const Tensor& x) {
             if (x.shape() == y.shape()) return x;
             return compute("add", Binary::add, x, Tensor::zeros(y.shape(), y.dtype(), y.device()));
           };
           const Tensor wide_a = widened(a), wide_b = widened(b);
           // To be recorded, it is a product with what the kernel makes of ones, but for where that is 0: an
           // infinite dy stays out of there.
           const Tensor dy =
               c.create_graph() ? Tensor::ones(y.shape(), y.dtype(), y.device()) : c.grad_output();
           dispatch(name, y, [&](const auto& k) {
             using T = kernel_type<decltype(k)>;
             k.choose_backward(y.numel(), wide_a.data<T>(), wide_b.data<T>(), y.data<T>(), dy.data<T>(),
                               da.data<T>(), db.data<T>());
           });
           if (c.create_graph())
             for (Tensor* share : {&da, &db})
               *share = where(ne(*share, 0.0), mul(*share, c.grad_output()), 0.0);
           c.set(0, sum_to(da, a.shape()));
           c.set(1, sum_to(db, b.shape()));
         },
         {.double_backward = true});
  return y;
}

}  // namespace

// y = a + b: da = dy, db = dy, each summed over the dimensions in which it was stretched.
Tensor add(const Tensor& a, const Tensor& b) {
  const Tensor y = compute("add", Binary::add, a, b);
  record("add", {a, b}, {y},
         [sa = a.shape(), sb = b.shape()](BackwardContext& c) {
           if (c.needs(0)) c.set(0, sum_to(c.grad_output(), sa));
           if (c.needs(1)) c.set(1, sum_to(c.take_grad_output(), sb));
         },
         {.double_backward = true, .looks_back = false});
  return y;
}

// y = a - b: da = dy, db = -dy.
Tensor sub(const Tensor& a, const Tensor& b) {
  const Tensor y = compute("sub", Binary::sub, a, b);
  record("sub", {a, b}, {y},
         [sa = a.shape(), sb = b.shape()](BackwardContext& c) {
           if (c.needs(0)) c.set(0, sum_to(c.grad_output(), sa));
           if (c.needs(1)) c.set(1, neg(sum_to(c.grad_output(), sb)));
         },
         {.double_backward = true, .looks_back = false});
  return y;
}

// y = a b: da = dy b, db = dy a.
Tensor mul(const Tensor& a, const Tensor& b) {
  const Tensor y = compute("mul", Binary::mul, a, b);
  record("mul", {a, b}, {y},
         [=](BackwardContext& c) {
           if (c.needs(0)) c.set(0, sum_to(mul(c.grad_output(), b), a.shape()));
           if (c.needs(1)) c.set(1, sum_to(mul(c.grad_output(), a), b.shape()));
         },
         {.double_backward = true});
  return y;
}

Tensor operator/(const Tensor& x, double c) {
  if (x.device() != Device::cpu) return affine(x, 1 / c);
  return div(x, Tensor::scalar(c, x.dtype()));
}

// y = a / b: da = dy / b, db = -dy (a / b) / b.
Tensor div(const Tensor& a, const Tensor& b) {
  const Tensor y = compute("div", Binary::div, a, b);
  record("div", {a, b}, {y},
         [y, b, sa = a.shape()](BackwardContext& c) {
           if (c.needs(0)) c.set(0, sum_to(div(c.grad_output(), b), sa));
           // In this order, for dy / b may overflow where y is small.
           if (c.needs(1)) c.set(1, sum_to(neg(mul(c.grad_output(), div(y, b))), b.shape()));
         },
         {.double_backward = true});
  return y;
}

Tensor maximum(const Tensor& a, const Tensor& b) { return choose("maximum", Binary::maximum, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return choose("minimum", Binary::minimum, a, b); }

// y = s x + t: dx = s dy.
Tensor affine(const Tensor& x, double scale, double shift) {
  Tensor y = empty_like(x);
  dispatch("affine", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    using W = wide_type<decltype(k)>;
    k.affine(x.numel(), W(scale), W(shift), x.data<T>(), y.data<T>());
  });
  record("affine", {x}, {y}, [=](BackwardContext& c) { c.set(0, affine(c.grad_output(), scale)); },
         {.detail = Tape::current() ? concat(scale, " x + ", shift) : "",
          .double_backward = true,
          .looks_back = false,
          .told = Trace::note(TracedAffine{scale, shift})});
  return y;
}

// y = x: dx = dy, converted back. Of a weight there may be a copy already.
Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  const Tensor copy = is_half(dtype) ? WeightCopies::find(x, dtype) : Tensor();
  const Tensor y = copy.defined() ? copy.view(x.shape()) : x.to(dtype);
  if (!is_floating(dtype)) return y;  // has no gradient
  record("cast", {x}, {y}, [from = x.dtype()](BackwardContext& c) { c.set(0, cast(c.grad_output(), from)); },
         {.detail = Tape::current() ? concat(x.dtype(), " to ", dtype) : "",
          .double_backward = true,
          .looks_back = false});
  return y;
}

Tensor ops::recorded_copy(const BackwardContext& c, const Tensor& parameter, const Tensor& copy) {
  return c.create_graph() ? cast(parameter, copy.dtype()) : copy;
}

Tensor neg(const Tensor& x) {
  return unary("neg", Unary::neg, x, [](const Tensor&, const Tensor& dy) { return neg(dy); });
}
Tensor exp(const Tensor& x) {
  return unary("exp", Unary::exp, x, [](const Tensor& x, const Tensor& dy) { return dy * exp(x); });
}
Tensor log(const Tensor& x) {
  return unary("log", Unary::log, x, [](const Tensor& x, const Tensor& dy) { return dy / x; });
}
Tensor sqrt(const Tensor& x) {
  return unary("sqrt", Unary::sqrt, x, [](const Tensor& x, const Tensor& dy) { return 0.5 * dy / sqrt(x); });
}
Tensor square(const Tensor& x) {
  return unary("square", Unary::square, x, [](const Tensor& x, const Tensor& dy) { return 2.0 * dy * x; });
}
Tensor abs(const Tensor& x) {
  return unary("abs", Unary::abs, x, [](const Tensor& x, const Tensor& dy) {
    return dy *
           unary_backward("abs", Unary::abs, x, Tensor::ones(x.shape(), x.dtype(), x.device()));  // the sign
  });
}
Tensor sin(const Tensor& x) {
  return unary("sin", Unary::sin, x, [](const Tensor& x, const Tensor& dy) { return dy * cos(x); });
}
Tensor cos(const Tensor& x) {
  return unary("cos", Unary::cos, x, [](const Tensor& x, const Tensor& dy) { return -(dy * sin(x)); });
}
Tensor reciprocal(const Tensor& x) {
  return unary("reciprocal", Unary::reciprocal, x,
               [](const Tensor& x, const Tensor& dy) { return -(dy * square(reciprocal(x))); });
}

}  // namespace weft
