// Scalar side of the generic maths: the functions that activation structs call, for float and double. The
// SIMD types bring the same names for theirs, found by argument-dependent lookup.
#pragma once

#include <cmath>
#include <type_traits>

namespace weft::kernels::math {

template <class T>
concept Scalar = std::is_floating_point_v<T>;

template <Scalar T>
T exp(T x) {
  return std::exp(x);
}
/// e^x where |x| <= 1000 or x is NaN; SIMD needs fewer instructions for these.
template <Scalar T>
T bounded_exp(T x) {
  return std::exp(x);
}
/// 1 / x where 1 <= x <= 2^100 or x is NaN; SIMD takes an estimate and improves it.
template <Scalar T>
T reciprocal(T x) {
  return T(1) / x;
}
template <Scalar T>
T log1p(T x) {
  return std::log1p(x);
}
template <Scalar T>
T expm1(T x) {
  return std::expm1(x);
}
template <Scalar T>
T tanh(T x) {
  return std::tanh(x);
}
template <Scalar T>
T erf(T x) {
  return std::erf(x);
}
template <Scalar T>
T sin(T x) {
  return std::sin(x);
}
template <Scalar T>
T cos(T x) {
  return std::cos(x);
}
template <Scalar T>
T abs(T x) {
  return std::abs(x);
}
template <Scalar T>
T sqrt(T x) {
  return std::sqrt(x);
}
/// As SIMD does it: the second operand where either is NaN.
template <Scalar T>
T max(T a, T b) {
  return a > b ? a : b;
}
template <Scalar T>
T min(T a, T b) {
  return a < b ? a : b;
}
template <Scalar T>
T select(bool c, T a, T b) {
  return c ? a : b;
}
/// 0, and NaN where x is NaN: for flat parts. Of scalars and vectors.
template <class V>
V zero_or_nan(V x) {
  const V held = min(V(1), max(V(-1), x));
  return held - held;
}

}  // namespace weft::kernels::math
