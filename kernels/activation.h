// Activations: one struct per file in kernels/activations/, value and derivative written once for float,
// double and SIMD vectors. CMake lists the folder into activation_list.h; the enum below, the names, the
// layers, the fused batch-norm kernels and the tests all follow from that list, so adding an activation is
// adding one file.
//
// Such a struct is named as its file (mish.h holds struct mish), has a doc comment "name(x) = formula
// (source); remarks", which activation_description() gives, and declares
//   static constexpr double param;                      default of its one parameter (0 where it has none)
//   template <class V> static V forward(V x, V p);      value
//   template <class V> static V derivative(V x, V p);   slope
// with no `if` on values: exp, log1p, tanh, erf, sin, cos, sqrt, abs, max, min, clamp, reciprocal,
// select(cond, a, b) of kernels/math.h, so that a vector type can take the place of V, and a dual number
// (kernels/dual.h) on the way to the second derivative.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "weft/kernels/activation_names.h"  // generated: WEFT_FOR_EACH_ACTIVATION(X)

namespace weft {

#define WEFT_ENUM_ENTRY(name) name,
/// The activation functions; identity means none.
enum class Activation : uint8_t { WEFT_FOR_EACH_ACTIVATION(WEFT_ENUM_ENTRY) };
#undef WEFT_ENUM_ENTRY

#define WEFT_COUNT_ENTRY(name) +1
constexpr int kActivationCount = 0 WEFT_FOR_EACH_ACTIVATION(WEFT_COUNT_ENTRY);
#undef WEFT_COUNT_ENTRY

/// "mish", "relu", ...: the name on the command line and in files.
std::string_view activation_name(Activation act);
/// The activation of that name, or nothing.
std::optional<Activation> find_activation(std::string_view name);
/// Default of its parameter (LeakyReLU's slope, ELU's alpha); 0 where it has none.
double activation_default_param(Activation act);
/// Value, slope and second derivative at x, in double; `param` is the activation's default where it is not
/// given. At corners as KernelTable's entries take them.
double activation_value(Activation act, double x, std::optional<double> param = {});
double activation_slope(Activation act, double x, std::optional<double> param = {});
double activation_curvature(Activation act, double x, std::optional<double> param = {});
/// Formula, source and remarks: the doc comment of its file, in one line.
std::string_view activation_description(Activation act);

}  // namespace weft
