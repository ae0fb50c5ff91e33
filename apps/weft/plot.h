// Pictures of activations: value, slope and second derivative.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weft/apps/weft/drawing.h"
#include "weft/kernels/activation.h"

namespace weft::app {

/// Colours of text, large and small, and of the lines behind a curve.
constexpr uint32_t kInk = 0x222222, kGrey = 0x777777, kGrid = 0xe4e4e4, kAxis = 0x9a9a9a;

/// The parameters that an activation has before training (kernels/initial_activation.h): "0.01",
/// "weight=0.25", "0.229167 in evaluation" or nothing.
std::string parameters_text(Activation act);

/// One field for each activation, as it is before training, over low <= x <= high. Lines are interrupted
/// where a function jumps.
Drawing plot_activations(const std::vector<Activation>& activations, double low, double high);

/// Multiples of 1, 2 or 5 times a power of ten in [low, high], with `most` steps between them at most.
std::vector<double> ticks(double low, double high, int most);

}  // namespace weft::app
