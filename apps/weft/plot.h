// Pictures of activations: value, slope and second derivative.
#pragma once

#include <string>
#include <vector>

#include "weft/apps/weft/drawing.h"
#include "weft/kernels/activation.h"

namespace weft::app {

/// The parameters that an activation has before training (kernels/initial_activation.h): "0.01",
/// "weight=0.25", "0.229167 in evaluation" or nothing.
std::string parameters_text(Activation act);

/// One field for each activation, as it is before training, over low <= x <= high. Lines are interrupted
/// where a function jumps.
Drawing plot_activations(const std::vector<Activation>& activations, double low, double high);

}  // namespace weft::app
