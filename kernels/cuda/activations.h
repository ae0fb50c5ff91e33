// Activations inside of CUDA kernels. A kernel takes the activation as an object and calls
//   a.forward(x, param), a.derivative(x, param)
// on floats: `template <class A> __global__ void kernel(A a, ...)`, launched from with_activation(act, ...).
// The few that training spends its time in have kernels of their own; the others share one that looks up the
// activation as it runs, a branch that all threads take alike, because a kernel for each of them would only
// cost compile time and memory.
#pragma once

#include <cmath>
#include <type_traits>

#include "weft/kernels/activation_in_hand.h"
#include "weft/kernels/host_device.h"
#include "weft/kernels/math.h"
#include "weft/kernels/with_activation.h"

namespace weft::kernels::cuda {

#define WEFT_CASE(name)  \
  case Activation::name: \
    return activations::name::WEFT_PART(x, param);
#define WEFT_PART forward
/// Value and slope of the fixed activation `act`.
WEFT_HD WEFT_OUT_OF_LINE inline float activation_forward(Activation act, float x, float param) {
  switch (act) {
    WEFT_FOR_EACH_ACTIVATION(WEFT_CASE)
    default:
      return x;
  }
}
#undef WEFT_PART
#define WEFT_PART derivative
WEFT_HD WEFT_OUT_OF_LINE inline float activation_derivative(Activation act, float x, float param) {
  switch (act) {
    WEFT_FOR_EACH_ACTIVATION(WEFT_CASE)
    default:
      return 1;
  }
}
#undef WEFT_PART
#undef WEFT_CASE

/// The activation `act`, with the functions of the struct of that name.
struct AnyActivation {
  Activation act;

  WEFT_HD float forward(float x, float param) const { return activation_forward(act, x, param); }
  WEFT_HD float derivative(float x, float param) const { return activation_derivative(act, x, param); }
};

// Mish for results of 16 bits, in fewer instructions than activations::mish takes; NaN at -infinity.

/// min(z, 20), above which Mish and its slope are exact in float; NaN where z is.
WEFT_HD inline float below_20(float z) {
#ifdef __CUDA_ARCH__
  asm("min.NaN.f32 %0, %0, 0f41A00000;" : "+f"(z));
  return z;
#else
  return z > 20 ? 20 : z;
#endif
}
/// 2^shift e^z
WEFT_HD inline float shifted_exp(float z, float shift) {
  const float power = fmaf(z, math::kLog2E, shift);
#ifdef __CUDA_ARCH__
  float exp;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(exp) : "f"(power));
  return exp;
#else
  return std::exp2(power);
#endif
}
/// Within 1e-5 of itself. With e = e^z and n = e (e + 2) tanh(softplus(z)) is n / (n + 2).
WEFT_HD inline float short_mish(float z) {
  const float two = shifted_exp(below_20(z), 1), n = two * fmaf(two, 0.25f, 1.0f);
  return z * (n * math::reciprocal(n + 2.0f));
}
/// The slope with an absolute error of at most 3e-7. With u = e^z + 1 and r = 1 / (u^2 + 1)
/// tanh(softplus(z)) is 1 - 2 r, and its slope 4 e^z u r^2.
WEFT_HD inline float short_mish_slope(float z) {
  const float c = below_20(z), four = shifted_exp(c, 2), u = fmaf(four, 0.25f, 1.0f);
  const float r = math::reciprocal(fmaf(u, u, 1.0f));
  return fmaf(r, fmaf(c, four * u * r, -2.0f), 1.0f);
}

template <class T, class A>
constexpr bool kShortMish = sizeof(T) == 2 && std::is_same_v<A, activations::mish>;
/// Value and slope at z of an activation in hand, for results in T.
template <class T, class A>
WEFT_HD float value(const InHand<A, float>& f, float z) {
  return kShortMish<T, A> ? short_mish(z) : f.forward(z);
}
template <class T, class A>
WEFT_HD float slope(const InHand<A, float>& f, float z) {
  return kShortMish<T, A> ? short_mish_slope(z) : f.derivative(z);
}

/// Calls f with an object that is the activation `act`: activations::identity, relu, mish or silu, or an
/// AnyActivation. So f is instantiated five times, however many activations there are.
template <class F>
void with_activation(Activation act, F&& f) {
  switch (act) {
    case Activation::identity:
      return f(activations::identity{});
    case Activation::relu:
      return f(activations::relu{});
    case Activation::mish:
      return f(activations::mish{});
    case Activation::silu:
      return f(activations::silu{});
    default:
      return f(AnyActivation{act});
  }
}

}  // namespace weft::kernels::cuda
