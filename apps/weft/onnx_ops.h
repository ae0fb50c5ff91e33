// Ops of a trace as nodes of an ONNX graph.
#pragma once

#include "weft/apps/weft/onnx_graph.h"

namespace weft::app::onnx {

/// Adds the nodes of an op that a value goes into. Throws Error for one that has no form in ONNX here.
void add_op(Graph& graph, const TracedOp& op);

}  // namespace weft::app::onnx
