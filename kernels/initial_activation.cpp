#include "weft/kernels/initial_activation.h"

#include <iterator>

#include "weft/kernels/dual.h"
#include "weft/kernels/with_activation.h"

namespace weft {
namespace {

using kernels::math::Dual;

/// Calls f(struct of a learned activation, its parameters where they start).
template <class V, class F>
V with_learned(Activation act, F f) {
  V y(0.0);
  kernels::with_learned_activation(act, [&]<class A>(A a) {
    V p[std::size(A::starts)];
    for (size_t i = 0; i < std::size(p); ++i) p[i] = V(A::starts[i]);
    y = f(a, p);
  });
  return y;
}

}  // namespace

InitialActivation initial_activation(Activation act) {
  if (is_fixed(act)) return {act, {activation_default_param(act)}};
  static_assert(kAllActivationCount - kActivationCount - kLearnedActivationCount == 1);
  using kernels::activations::rrelu;
  if (is_random(act)) return {Activation::leaky_relu, {(rrelu::lower + rrelu::upper) / 2}};
  InitialActivation initial{act, {}};
  const auto learned = activation_parameters(act);
  for (size_t i = 0; i < learned.size(); ++i) initial.parameters[i] = learned[i].start;
  return initial;
}

double initial_value(Activation act, double x) {
  if (is_learned(act))
    return with_learned<double>(act, [=]<class A>(A, const auto& p) { return A::forward(x, p); });
  const InitialActivation fixed = initial_activation(act);
  return activation_value(fixed.activation, x, fixed.parameters[0]);
}
double initial_slope(Activation act, double x) {
  if (is_learned(act))
    return with_learned<double>(act, [=]<class A>(A, const auto& p) { return A::derivative(x, p); });
  const InitialActivation fixed = initial_activation(act);
  return activation_slope(fixed.activation, x, fixed.parameters[0]);
}
double initial_curvature(Activation act, double x) {
  if (is_learned(act))
    return with_learned<Dual<double>>(
               act, [=]<class A>(A, const auto& p) { return A::derivative(Dual<double>(x, 1), p); })
               .tangent +
           kernels::math::zero_or_nan(x);
  const InitialActivation fixed = initial_activation(act);
  return activation_curvature(fixed.activation, x, fixed.parameters[0]);
}

}  // namespace weft
