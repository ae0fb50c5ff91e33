// Gradient centralisation, for any optimizer.
#pragma once

#include <vector>

#include "weft/engine/module.h"

namespace weft::optim {

/// Takes from the gradient of each output its mean: g <- g - mean of g over all dimensions but the first, for
/// parameters of more than `above` dimensions (1: linear and convolution weights; 3: convolutions only).
/// (Yong et al. 2020, "Gradient Centralization", https://arxiv.org/abs/2004.01461, equation 1.) Changes the
/// gradients in place; to be called between backward and step(). Parameters without a gradient are passed
/// over.
///
///   tape.backward(loss);
///   optim::centralize_gradients_(net.parameters());
///   optimizer.step();
void centralize_gradients_(const std::vector<Parameter>& parameters, int above = 1);

}  // namespace weft::optim
