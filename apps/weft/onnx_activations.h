// Activations as nodes of an ONNX graph.
#pragma once

#include <string>
#include <vector>

#include "weft/apps/weft/onnx_graph.h"
#include "weft/kernels/activation.h"

namespace weft::app::onnx {

/// Adds activation(x), x being the name of a value, and gives the name of the result. The nodes come from the
/// formula in kernels/activations/ itself, with the graph in the place of numbers; where ONNX has an operator
/// for it, or for a part of it, that stands for the part. param: of a fixed one; parameters: the names of the
/// learned ones', shaped to fit beside x. One that draws is what it is in evaluation.
std::string add_activation(Graph& graph, const std::string& x, Activation activation, double param,
                           const std::vector<std::string>& parameters = {});

}  // namespace weft::app::onnx
