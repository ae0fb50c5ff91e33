// Pictures of activations: value, slope and second derivative.
#pragma once

#include <vector>

#include "weft/apps/weft/drawing.h"
#include "weft/kernels/activation.h"

namespace weft::app {

/// One field for each activation, with its default parameter, over low <= x <= high. Lines are interrupted
/// where a function jumps.
Drawing plot_activations(const std::vector<Activation>& activations, double low, double high);

/// Multiples of 1, 2 or 5 times a power of ten in [low, high], with `most` steps between them at most.
std::vector<double> ticks(double low, double high, int most);

}  // namespace weft::app
