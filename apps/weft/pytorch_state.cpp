#include "weft/apps/weft/pytorch_state.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "weft/apps/weft/onnx_graph.h"
#include "weft/engine/error.h"
#include "weft/engine/eval_guard.h"
#include "weft/engine/ops/permuted.h"
#include "weft/engine/trace.h"
#include "weft/layers/batch_norm.h"
#include "weft/layers/convolution.h"
#include "weft/layers/self_attention.h"

namespace weft::app {
namespace {

/// Of each weight behind a flattened image [N, H, W, C] the image's sizes, by the weight's memory.
std::map<const void*, Shape> flattened_inputs(Module& model, const Shape& image) {
  const EvalGuard evaluation(model);
  const Trace trace;
  model(Tensor::zeros(image));
  std::map<const void*, Shape> flat, of_weight;
  for (const TracedOp& op : trace.ops()) {
    const Tensor& x = op.inputs[0];
    if (op.op == "reshape" && x.ndim() == 4 && op.outputs[0].ndim() == 2 &&
        x.size(0) == op.outputs[0].size(0))
      flat.emplace(op.outputs[0].raw(), x.shape());
    if (op.op == "linear" && flat.contains(x.raw())) of_weight.emplace(op.inputs[1].raw(), flat.at(x.raw()));
  }
  return of_weight;
}

/// [O, .., I] to [O, I, ..].
Tensor inputs_second(const Tensor& t) { return ops::permuted(t, onnx::to_channels_first(t.ndim())); }

}  // namespace

StateDict pytorch_state_dict(Module& model, int64_t channels, int64_t height, int64_t width) {
  const auto flattened = flattened_inputs(model, {1, height, width, channels});
  std::map<std::string, const Module*> owners;
  model.visit([&](const std::string& path, Module& module) { owners.emplace(path, &module); });
  StateDict out;
  for (const auto& [name, tensor] : model.state_dict()) {
    const size_t dot = name.rfind('.');
    const std::string path = dot == std::string::npos ? "" : name.substr(0, dot), own = name.substr(dot + 1);
    const std::string prefix = name.substr(0, dot + 1);
    const Module* const owner = owners.at(path);
    check(dynamic_cast<const SpectralLinear*>(owner) || (own != "u" && own != "v" && own != "g"),
          "export: ", name, ": a weight under spectral or weight norm has no name of PyTorch's here");
    std::string renamed = name;
    Tensor t = tensor;
    if (dynamic_cast<const ConvolutionLayer<Conv2dLayerOptions>*>(owner) ||
        dynamic_cast<const ConvolutionLayer<ConvTransposeLayerOptions>*>(owner)) {
      if (own == "weight") t = inputs_second(t);
    } else if (dynamic_cast<const SpectralLinear*>(owner)) {
      renamed = prefix + (own == "weight" ? "weight_orig" : "weight_" + own);
      if (own == "weight") t = t.view({t.size(0), t.size(1), 1});
    } else if (const auto image = flattened.find(t.raw()); image != flattened.end()) {
      const Shape& s = image->second;
      t = inputs_second(t.view({t.size(0), s[1] * s[2], s[3]})).view(t.shape());
    }
    out.emplace_back(renamed, t);
    if (own == "running_var" && dynamic_cast<const BatchNorm2d*>(owner))
      out.emplace_back(prefix + "num_batches_tracked", Tensor::zeros({}, DType::i64));
  }
  return out;
}

}  // namespace weft::app
