// A model as an ONNX graph.
#pragma once

#include "weft/apps/weft/onnx_file.h"
#include "weft/engine/module.h"

namespace weft::app::onnx {

/// The graph of `model` in evaluation mode: images f32 [N, channels, height, width] -> logits [N, ...], for
/// any number N of images. It is read off two forward passes, of two and of three images: what differs
/// between them is the number of images. Throws Error where an op has no form in ONNX, and where the two
/// differ otherwise, as where a part of the model computes outside of the ops that record(). The weights are
/// shared with the model, so save() before it changes.
Model make_graph(Module& model, int64_t channels, int64_t height, int64_t width);

}  // namespace weft::app::onnx
