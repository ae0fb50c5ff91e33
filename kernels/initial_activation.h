// Any activation as a function of x alone, as it is before training: what plots and certificates show.
#pragma once

#include "weft/kernels/activation.h"

namespace weft {

/// A fixed activation with its default parameter; a learned one with its parameters where they start; one
/// that draws as it is in evaluation, where it is a fixed one (rrelu: leaky_relu with the mean slope).
struct InitialActivation {
  Activation activation = Activation::identity;  ///< fixed or learned
  double parameters[kMostLearnedParameters] = {};
};
InitialActivation initial_activation(Activation act);

/// Value, slope and second derivative of it at x, in double. At corners as KernelTable's entries take them.
double initial_value(Activation act, double x);
double initial_slope(Activation act, double x);
double initial_curvature(Activation act, double x);

}  // namespace weft
