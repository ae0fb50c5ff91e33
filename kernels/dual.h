// Dual numbers: a value and its derivative with respect to one variable, carried through the functions of
// kernels/math.h by the chain rule. With Dual<V> in the place of V, the slope of an activation gives its
// second derivative, for float and double, SIMD vectors and on the GPU alike.
//
// A tangent of 0 stays 0 whatever it is multiplied by, as of a constant beside an infinity, or of a value
// that is held in range. Where a function has a corner, its slope is that of the lower side of its operand
// (abs; min and max of their second operand); clamp is flat at both ends.
#pragma once

#include "weft/kernels/math.h"

namespace weft::kernels::math {

template <class V>
struct Dual {
  V value, tangent;

  Dual() = default;
  WEFT_HD Dual(V v, V t) : value(v), tangent(t) {}
  /// A constant.
  template <class Number>
  requires std::is_arithmetic_v<Number> WEFT_HD explicit Dual(Number constant)
      : value(V(constant)), tangent(V(0)) {}
};

/// factor * tangent, and 0 where the tangent is.
template <class V>
WEFT_HD V chain(V factor, V tangent) {
  return select(tangent == V(0), V(0), factor * tangent);
}

template <class V>
WEFT_HD Dual<V> operator+(Dual<V> a, Dual<V> b) {
  return {a.value + b.value, a.tangent + b.tangent};
}
template <class V>
WEFT_HD Dual<V> operator-(Dual<V> a, Dual<V> b) {
  return {a.value - b.value, a.tangent - b.tangent};
}
template <class V>
WEFT_HD Dual<V> operator*(Dual<V> a, Dual<V> b) {
  return {a.value * b.value, chain(b.value, a.tangent) + chain(a.value, b.tangent)};
}
template <class V>
WEFT_HD Dual<V> operator/(Dual<V> a, Dual<V> b) {
  const V quotient = a.value / b.value;
  return {quotient, (a.tangent - chain(quotient, b.tangent)) / b.value};
}

template <class V>
WEFT_HD auto operator<(Dual<V> a, Dual<V> b) {
  return a.value < b.value;
}
template <class V>
WEFT_HD auto operator>(Dual<V> a, Dual<V> b) {
  return a.value > b.value;
}
template <class V>
WEFT_HD auto operator<=(Dual<V> a, Dual<V> b) {
  return a.value <= b.value;
}
template <class V>
WEFT_HD auto operator>=(Dual<V> a, Dual<V> b) {
  return a.value >= b.value;
}

template <class Condition, class V>
WEFT_HD Dual<V> select(Condition c, Dual<V> a, Dual<V> b) {
  return {select(c, a.value, b.value), select(c, a.tangent, b.tangent)};
}
template <class V>
WEFT_HD Dual<V> max(Dual<V> a, Dual<V> b) {
  return {max(a.value, b.value), select(a.value >= b.value, a.tangent, b.tangent)};
}
template <class V>
WEFT_HD Dual<V> min(Dual<V> a, Dual<V> b) {
  return {min(a.value, b.value), select(a.value < b.value, a.tangent, b.tangent)};
}
template <class V>
WEFT_HD Dual<V> clamp(Dual<V> x, Dual<V> low, Dual<V> high) {
  return {clamp(x.value, low.value, high.value),
          select((x.value > low.value) & (x.value < high.value), x.tangent, V(0))};
}
template <class V>
WEFT_HD Dual<V> abs(Dual<V> x) {
  return {abs(x.value), select(x.value > V(0), x.tangent, V(0) - x.tangent)};
}

template <class V>
WEFT_HD Dual<V> exp(Dual<V> x) {
  const V e = exp(x.value);
  return {e, chain(e, x.tangent)};
}
template <class V>
WEFT_HD Dual<V> bounded_exp(Dual<V> x) {
  const V e = bounded_exp(x.value);
  return {e, chain(e, x.tangent)};
}
template <class V>
WEFT_HD Dual<V> expm1(Dual<V> x) {
  return {expm1(x.value), chain(exp(x.value), x.tangent)};
}
template <class V>
WEFT_HD Dual<V> log1p(Dual<V> x) {
  return {log1p(x.value), x.tangent / (V(1) + x.value)};
}
/// 1 / cosh(x)^2, as in activations/tanh.h.
template <class V>
WEFT_HD Dual<V> tanh(Dual<V> x) {
  const V e = exp(V(-2) * abs(x.value)), r = V(1) / (V(1) + e);
  return {tanh(x.value), chain(V(4) * e * r * r, x.tangent)};
}
template <class V>
WEFT_HD Dual<V> erf(Dual<V> x) {
  constexpr double two_over_root_pi = 1.1283791670955126;
  return {erf(x.value), chain(V(two_over_root_pi) * exp(V(0) - x.value * x.value), x.tangent)};
}
template <class V>
WEFT_HD Dual<V> normal_cdf(Dual<V> x) {
  return {normal_cdf(x.value), chain(normal_density(x.value), x.tangent)};
}
template <class V>
WEFT_HD Dual<V> normal_density(Dual<V> x) {
  const V density = normal_density(x.value);
  return {density, chain(density, chain(V(0) - x.value, x.tangent))};
}
template <class V>
WEFT_HD Dual<V> sin(Dual<V> x) {
  return {sin(x.value), chain(cos(x.value), x.tangent)};
}
template <class V>
WEFT_HD Dual<V> cos(Dual<V> x) {
  return {cos(x.value), chain(V(0) - sin(x.value), x.tangent)};
}
template <class V>
WEFT_HD Dual<V> sqrt(Dual<V> x) {
  const V root = sqrt(x.value);
  return {root, chain(x.tangent, V(0.5) / root)};  // 0 where the root is infinite
}
template <class V>
WEFT_HD Dual<V> reciprocal(Dual<V> x) {
  const V r = reciprocal(x.value);
  return {r, V(0) - chain(r * r, x.tangent)};
}

/// The second derivative of the activation A at x; NaN at a NaN.
template <class A, class V>
WEFT_HD V curvature(V x, V param) {
  return A::derivative(Dual<V>(x, V(1)), Dual<V>(param, V(0))).tangent + zero_or_nan(x);
}

}  // namespace weft::kernels::math
