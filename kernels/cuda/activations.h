// Activations inside of CUDA kernels. A kernel takes the activation as an object and calls
//   a.forward(x, param), a.derivative(x, param)
// on floats: `template <class A> __global__ void kernel(A a, ...)`, launched from with_activation(act, ...).
// The few that training spends its time in have kernels of their own; the others share one that looks up the
// activation as it runs, a branch that all threads take alike, because a kernel for each of them would only
// cost compile time and memory.
#pragma once

#include "weft/kernels/host_device.h"
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
