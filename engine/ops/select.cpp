#include "weft/engine/ops/select.h"

#include <cmath>
#include <utility>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"

namespace weft {
namespace {

using kernels::Compare;

/// Writes where op holds of a and b, or of b and a.
template <class T, class Kernel>
void compare_data(Kernel kernel, Compare op, bool swapped, kernels::Broadcast how, const Tensor& a,
                  const Tensor& b, const Tensor& y) {
  const T *first = a.data<T>(), *second = b.data<T>();
  if (swapped) std::swap(how.a_stride, how.b_stride), std::swap(first, second);
  kernel(op, how, first, second, y.data<uint8_t>());
}

Tensor compare(const char* name, Compare op, const Tensor& a, const Tensor& b, bool swapped = false) {
  ops::check_same_dtype(name, a, b);
  const Shape shape = ops::broadcast_shape(name, a.shape(), b.shape());
  const Tensor y = Tensor::empty(shape, DType::u8, a.device());
  const kernels::Broadcast how = ops::broadcast(shape, a.shape(), b.shape());
  if (y.numel() == 0) return y;
  if (a.device() == Device::cpu && a.dtype() == DType::i64)
    compare_data<int64_t>(kernels::plain_compare<int64_t>, op, swapped, how, a, b, y);
  else if (a.device() == Device::cpu && a.dtype() == DType::u8)
    compare_data<uint8_t>(kernels::plain_compare<uint8_t>, op, swapped, how, a, b, y);
  else
    dispatch(name, a, [&](const auto& k) {
      compare_data<kernel_type<decltype(k)>>(k.compare, op, swapped, how, a, b, y);
    });
  return y;
}

/// Whole numbers are compared with a number that is none of their type as doubles.
Tensor compare(const char* name, Compare op, const Tensor& a, double b, bool swapped = false) {
  const auto number = [&](DType dtype) { return Tensor::scalar(b, dtype, a.device()); };
  if (a.device() == Device::cpu && (a.dtype() == DType::i64 || a.dtype() == DType::u8)) {
    const double most = a.dtype() == DType::u8 ? 256 : 0x1p63, least = a.dtype() == DType::u8 ? 0 : -0x1p63;
    if (!(b >= least && b < most && b == std::trunc(b)))
      return compare(name, op, a.to(DType::f64), number(DType::f64), swapped);
  }
  return compare(name, op, a, number(a.dtype()), swapped);
}

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b) { return compare("eq", Compare::eq, a, b); }
Tensor ne(const Tensor& a, const Tensor& b) { return compare("ne", Compare::ne, a, b); }
Tensor lt(const Tensor& a, const Tensor& b) { return compare("lt", Compare::lt, a, b); }
Tensor le(const Tensor& a, const Tensor& b) { return compare("le", Compare::le, a, b); }
Tensor gt(const Tensor& a, const Tensor& b) { return compare("gt", Compare::lt, a, b, true); }
Tensor ge(const Tensor& a, const Tensor& b) { return compare("ge", Compare::le, a, b, true); }
Tensor eq(const Tensor& a, double b) { return compare("eq", Compare::eq, a, b); }
Tensor ne(const Tensor& a, double b) { return compare("ne", Compare::ne, a, b); }
Tensor lt(const Tensor& a, double b) { return compare("lt", Compare::lt, a, b); }
Tensor le(const Tensor& a, double b) { return compare("le", Compare::le, a, b); }
Tensor gt(const Tensor& a, double b) { return compare("gt", Compare::lt, a, b, true); }
Tensor ge(const Tensor& a, double b) { return compare("ge", Compare::le, a, b, true); }

namespace {

bool is_whole(DType t) { return t == DType::i64 || t == DType::u8; }

/// y = c ? a : b from dimension `dim` on; returns what comes behind it in y.
template <class T>
T* choose_whole(const kernels::Broadcast& how, int dim, const uint8_t* c, const T* a, const T* b, T* y) {
  if (dim == how.ndim) {
    *y = *c ? *a : *b;
    return y + 1;
  }
  for (int64_t i = 0; i < how.size[size_t(dim)]; ++i) {
    y = choose_whole(how, dim + 1, c, a, b, y);
    c += how.c_stride[size_t(dim)], a += how.a_stride[size_t(dim)], b += how.b_stride[size_t(dim)];
  }
  return y;
}

/// The number in the dtype of `other`, exactly if that is one of whole numbers.
Tensor number_beside(const Tensor& other, double value) {
  if (is_whole(other.dtype())) {
    const bool small = other.dtype() == DType::u8;
    check(value == std::trunc(value) && value >= (small ? 0 : -0x1p63) && value < (small ? 256 : 0x1p63),
          "where: ", value, " is no ", other.dtype(), "; convert the ", other.dtype(), " ", other.shape(),
          " with .to(DType::f32), or take a whole number that fits");
  }
  return Tensor::scalar(value, other.dtype(), other.device());
}

}  // namespace

// da = dy where the condition holds, else 0; db the other way round.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check(condition.dtype() == DType::u8, "where: the condition is ", condition.dtype(), " ", condition.shape(),
        "; expected u8, as eq(), lt() and the like give it");
  ops::check_same_dtype("where", a, b);
  ops::check_same_device("where", condition, a);
  const Shape shape =
      ops::broadcast_shape("where", condition.shape(), ops::broadcast_shape("where", a.shape(), b.shape()));
  check(!is_whole(a.dtype()) || a.device() == Device::cpu, "where: ", a.dtype(), " ", a.shape(), " on ",
        a.device(), "; whole numbers are chosen on the CPU, move them there with .to(Device::cpu)");
  const Tensor y = ops::empty(shape, a);
  const auto plain = [&]<class T>(T) {
    choose_whole(ops::broadcast(shape, a.shape(), b.shape(), condition.shape()), 0, condition.data<uint8_t>(),
                 a.data<T>(), b.data<T>(), y.data<T>());
  };
  if (y.numel() == 0)
    ;
  else if (a.dtype() == DType::i64)
    plain(int64_t());
  else if (a.dtype() == DType::u8)
    plain(uint8_t());
  else
    dispatch("where", a, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      k.select(ops::broadcast(shape, a.shape(), b.shape(), condition.shape()), condition.data<uint8_t>(),
               a.data<T>(), b.data<T>(), y.data<T>());
    });
  record("where", {a, b}, {y},
         [condition, sa = a.shape(), sb = b.shape()](BackwardContext& c) {
           if (c.needs(0)) c.set(0, ops::sum_to(where(condition, c.grad_output(), 0.0), sa));
           if (c.needs(1)) c.set(1, ops::sum_to(where(condition, 0.0, c.grad_output()), sb));
         },
         {.double_backward = true, .also = {condition}});
  return y;
}
Tensor where(const Tensor& condition, const Tensor& a, double b) {
  return where(condition, a, number_beside(a, b));
}
Tensor where(const Tensor& condition, double a, const Tensor& b) {
  return where(condition, number_beside(b, a), b);
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  check(ops::broadcast_shape("masked_fill", x.shape(), mask.shape()) == x.shape(), "masked_fill: the mask ",
        mask.shape(), " does not broadcast to ", x.shape());
  return where(mask, value, x);
}

Tensor clamp(const Tensor& x, double min, double max) {
  Tensor y = ops::empty_like(x);
  // The bound comes first, as the kernels keep the second of two that are equal: -0 between 0 and 1 stays.
  if (y.numel() > 0)
    dispatch("clamp", x, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      const kernels::Broadcast how = ops::broadcast(x.shape(), {}, x.shape());
      const Tensor low = Tensor::scalar(min, x.dtype(), x.device()),
                   high = Tensor::scalar(max, x.dtype(), x.device());
      k.binary(kernels::Binary::maximum, how, low.data<T>(), x.data<T>(), y.data<T>());
      k.binary(kernels::Binary::minimum, how, high.data<T>(), y.data<T>(), y.data<T>());
    });
  BackwardFunction backward;
  if (recording({&x}))
    // Between the bounds x is as it was; if min > max it is nowhere between them.
    backward = [kept = min > max ? Tensor::zeros({}, DType::u8, x.device()) : eq(x.detach(), y.detach())](
                   BackwardContext& c) { c.set(0, where(kept, c.grad_output(), 0.0)); };
  record("clamp", {x}, {y}, backward,
         {.detail = Tape::current() ? concat(min, " to ", max) : "", .double_backward = true});
  return y;
}

Tensor pow(const Tensor& x, double exponent) {
  Tensor y = ops::empty_like(x);
  dispatch("pow", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.pow(wide_type<decltype(k)>(exponent), x.numel(), x.data<T>(), y.data<T>());
  });
  auto backward = [=](BackwardContext& c) {
    if (exponent == 0) return c.set(0, Tensor::zeros(x.shape(), x.dtype(), x.device()));
    const Tensor factor = Tensor::scalar(exponent, x.dtype(), x.device());  // a product keeps the sign of 0
    c.set(0, mul(c.grad_output(), mul(factor, pow(x, exponent - 1))));
  };
  record("pow", {x}, {y}, std::move(backward),
         {.detail = Tape::current() ? concat("to the power of ", exponent) : "", .double_backward = true});
  return y;
}

}  // namespace weft
