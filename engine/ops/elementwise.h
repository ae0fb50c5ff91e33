// Elementwise arithmetic with broadcasting as in NumPy and PyTorch: shapes are aligned at the right, sizes of
// 1 stretch.
#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// a + b (-, *, /), with broadcasting. Both have one dtype, a floating one.
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
/// The larger of both (the smaller), with broadcasting. Where a == b the gradient is shared half and half, as
/// in PyTorch.
Tensor maximum(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);
/// scale * x + shift.
Tensor affine(const Tensor& x, double scale, double shift = 0);
/// x converted to another floating dtype; its gradient is converted back.
Tensor cast(const Tensor& x, DType dtype);

/// Of each element. log is the natural logarithm, abs has slope 0 at 0, sin and cos take radians.
Tensor neg(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor square(const Tensor& x);
Tensor abs(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);

/// The same as operators, with a number too.
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& x) { return neg(x); }
inline Tensor operator+(const Tensor& x, double c) { return affine(x, 1, c); }
inline Tensor operator+(double c, const Tensor& x) { return affine(x, 1, c); }
inline Tensor operator-(const Tensor& x, double c) { return affine(x, 1, -c); }
inline Tensor operator-(double c, const Tensor& x) { return affine(x, -1, c); }
inline Tensor operator*(const Tensor& x, double c) { return affine(x, c); }
inline Tensor operator*(double c, const Tensor& x) { return affine(x, c); }
/// Divided, not multiplied by 1 / c, which is a rounding more; on a GPU it is multiplied, as by PyTorch.
Tensor operator/(const Tensor& x, double c);
inline Tensor operator/(double c, const Tensor& x) { return affine(reciprocal(x), c); }

}  // namespace weft
