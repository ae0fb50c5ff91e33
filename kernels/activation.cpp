#include "weft/kernels/activation.h"

#include <array>
#include <iterator>
#include <limits>

#include "weft/kernels/activation_descriptions.h"
#include "weft/kernels/activation_list.h"
#include "weft/kernels/kernels.h"

namespace weft {
namespace {

template <class A>
std::span<const LearnedParameter> parameters_of() {
  constexpr size_t n = std::size(A::names);
  static_assert(n == std::size(A::starts) && n <= kMostLearnedParameters);
  static const auto list = [] {
    std::array<LearnedParameter, n> made;
    for (size_t i = 0; i < n; ++i) made[i] = {A::names[i], A::starts[i]};
    return made;
  }();
  return list;
}

#define WEFT_FOR_ALL_ACTIVATIONS(X) \
  WEFT_FOR_EACH_ACTIVATION(X) WEFT_FOR_EACH_LEARNED_ACTIVATION(X) WEFT_FOR_EACH_RANDOM_ACTIVATION(X)

}  // namespace

std::string_view activation_name(Activation act) {
  switch (act) {
#define WEFT_CASE(name)  \
  case Activation::name: \
    return #name;
    WEFT_FOR_ALL_ACTIVATIONS(WEFT_CASE)
#undef WEFT_CASE
  }
  return "unknown";
}

std::optional<Activation> find_activation(std::string_view name) {
#define WEFT_CASE(entry) \
  if (name == #entry) return Activation::entry;
  WEFT_FOR_ALL_ACTIVATIONS(WEFT_CASE)
#undef WEFT_CASE
  return std::nullopt;
}

double activation_default_param(Activation act) {
  switch (act) {
#define WEFT_CASE(name)  \
  case Activation::name: \
    return kernels::activations::name::param;
    WEFT_FOR_EACH_ACTIVATION(WEFT_CASE)
#undef WEFT_CASE
    default:
      return 0;
  }
}

std::span<const LearnedParameter> activation_parameters(Activation act) {
  switch (act) {
#define WEFT_CASE(name)  \
  case Activation::name: \
    return parameters_of<kernels::activations::name>();
    WEFT_FOR_EACH_LEARNED_ACTIVATION(WEFT_CASE)
#undef WEFT_CASE
    default:
      return {};
  }
}

double activation_value(Activation act, double x, std::optional<double> param) {
  double y = std::numeric_limits<double>::quiet_NaN();
  kernels::reference<double>().activation(act, param.value_or(activation_default_param(act)), 1, &x, &y);
  return y;
}
double activation_slope(Activation act, double x, std::optional<double> param) {
  double slope = 1;
  kernels::reference<double>().activation_backward(act, param.value_or(activation_default_param(act)), 1, &x,
                                                   &slope, &slope);
  return slope;
}
double activation_curvature(Activation act, double x, std::optional<double> param) {
  double curvature = 1;
  kernels::reference<double>().activation_curvature(act, param.value_or(activation_default_param(act)), 1, &x,
                                                    &curvature, &curvature);
  return curvature;
}

std::string_view activation_description(Activation act) {
  static constexpr std::string_view kDescriptions[] = {WEFT_ACTIVATION_DESCRIPTIONS};
  static_assert(std::size(kDescriptions) == kAllActivationCount);
  return kDescriptions[size_t(act)];
}

}  // namespace weft
