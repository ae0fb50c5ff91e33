// Activations: one struct per file in kernels/activations/, value and derivative written once for float,
// double and SIMD vectors. CMake lists the folder into activation_list.h; the enum below, the names, the
// layers, the fused batch-norm kernels and the tests all follow from that list, so adding an activation is
// adding one file.
//
// The folder itself holds the fixed ones, functions of x alone; learned/ those with parameters that are
// trained, random/ those that draw in training. A fixed struct is named as its file (mish.h holds struct
// mish), has a doc comment "name(x) = formula (source); remarks", which activation_description() gives, and
// declares
//   static constexpr double param;                      default of its one parameter (0 where it has none)
//   template <class V> WEFT_HD static V forward(V x, V p);      value
//   template <class V> WEFT_HD static V derivative(V x, V p);   slope
// (WEFT_HD: for the GPU too) with no `if` on values: exp, bounded_exp, expm1, log1p, tanh, erf, normal_cdf,
// normal_density, sin, cos, sqrt, abs, max, min, clamp, reciprocal, select(cond, a, b) of kernels/math.h, so
// that a vector type can take the place of V, and a dual number (kernels/dual.h) on the way to the second
// derivative.
//
// A learned one, with N <= kMostLearnedParameters parameters p for each channel, declares instead
//   static constexpr const char* names[N];               names of the parameters in a state dict
//   static constexpr double starts[N];                   where they start
//   template <class V> static V forward(V x, const V (&p)[N]);
//   template <class V> static V derivative(V x, const V (&p)[N]);              slope in x
//   template <class V> static void gradients(V x, const V (&p)[N], V (&d)[N])  slope in each parameter
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "weft/kernels/activation_names.h"  // generated: WEFT_FOR_EACH_ACTIVATION(X) and the like

namespace weft {

#define WEFT_ENUM_ENTRY(name) name,
/// The activation functions: the fixed ones, then those with learned parameters, then those that draw;
/// identity means none.
enum class Activation : uint8_t {
  WEFT_FOR_EACH_ACTIVATION(WEFT_ENUM_ENTRY) WEFT_FOR_EACH_LEARNED_ACTIVATION(WEFT_ENUM_ENTRY)
      WEFT_FOR_EACH_RANDOM_ACTIVATION(WEFT_ENUM_ENTRY)
};
#undef WEFT_ENUM_ENTRY

#define WEFT_COUNT_ENTRY(name) +1
/// The fixed ones: Activation(0) to Activation(kActivationCount - 1).
constexpr int kActivationCount = 0 WEFT_FOR_EACH_ACTIVATION(WEFT_COUNT_ENTRY);
/// Those with learned parameters, which come next.
constexpr int kLearnedActivationCount = 0 WEFT_FOR_EACH_LEARNED_ACTIVATION(WEFT_COUNT_ENTRY);
/// All of them.
constexpr int kAllActivationCount =
    kActivationCount + kLearnedActivationCount WEFT_FOR_EACH_RANDOM_ACTIVATION(WEFT_COUNT_ENTRY);
#undef WEFT_COUNT_ENTRY

/// Learned parameters of an activation at most.
constexpr int kMostLearnedParameters = 4;

/// Whether it is a function of x alone, and so can be fused into other ops.
constexpr bool is_fixed(Activation act) { return int(act) < kActivationCount; }
/// Whether it has parameters that are trained.
constexpr bool is_learned(Activation act) {
  return !is_fixed(act) && int(act) < kActivationCount + kLearnedActivationCount;
}
/// Whether it draws random numbers in training.
constexpr bool is_random(Activation act) { return !is_fixed(act) && !is_learned(act); }
/// Whether its slope is a comparison or two; the others take an exponential.
constexpr bool has_cheap_slope(Activation act) {
  return act == Activation::identity || act == Activation::relu || act == Activation::leaky_relu ||
         act == Activation::prelu || act == Activation::srelu;
}

/// "mish", "relu", ...: the name on the command line and in files.
std::string_view activation_name(Activation act);
/// The activation of that name, or nothing.
std::optional<Activation> find_activation(std::string_view name);
/// Default of its fixed parameter (LeakyReLU's slope, ELU's alpha); 0 where it has none.
double activation_default_param(Activation act);
/// Value, slope and second derivative of a fixed activation at x, in double; `param` is the activation's
/// default where it is not given. At corners as KernelTable's entries take them.
double activation_value(Activation act, double x, std::optional<double> param = {});
double activation_slope(Activation act, double x, std::optional<double> param = {});
double activation_curvature(Activation act, double x, std::optional<double> param = {});

struct LearnedParameter {
  std::string_view name;  ///< in a state dict
  double start;           ///< value before training
};
/// What it learns, for each channel; nothing but for learned activations.
std::span<const LearnedParameter> activation_parameters(Activation act);
/// Formula, source and remarks: the doc comment of its file, in one line.
std::string_view activation_description(Activation act);

}  // namespace weft
