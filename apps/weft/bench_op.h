// What `weft bench op` measures: a list of cases, each an op on buffers of its own. The files bench_op_*.cpp
// fill the list; bench_op.cpp measures and prints it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "weft/apps/weft/bench.h"
#include "weft/engine/module.h"
#include "weft/kernels/kernels.h"

namespace weft::app {

/// A pass of an op and the bytes that it must move: every input read and every output written, once.
struct OpPass {
  std::string name;            ///< "forward", "backward"; of convolutions "backward_input", "backward_weight"
  double bytes = 0;            ///< 0: not a matter of memory, or not of it alone
  std::string algorithm = {};  ///< of a convolution
};

/// One pass, run once. flops: of multiply-adds, two each; 0 where there are none.
struct OpSample {
  double seconds = 0, flops = 0;
};
/// Runs all passes once, in the order of OpCase::passes. On a GPU: many times, for so many seconds, and tells
/// the median of each.
using OpRun = std::function<std::vector<OpSample>(double seconds)>;

struct OpCase {
  std::string family = {}, op = {}, shape = {};
  int64_t count = 0;  ///< layers of the model that have it; 0 for what does not come from the model
  std::vector<OpPass> passes = {};
  std::function<OpRun()> prepare = {};  ///< makes the buffers
};

/// Names for --only. The last two are of a GPU alone.
std::vector<std::string> op_families();

/// A convolution of a model.
struct ConvShape {
  kernels::Conv2dParams params;
  int64_t count = 0;   ///< layers that have it
  bool first = false;  ///< works on the images: its data gradient is never needed
  std::string text;    ///< "64->128 3x3 s2 @32"
};
/// The convolutions of `model`, each shape once, in order, read off a forward pass.
std::vector<ConvShape> conv_shapes(Module& model, int64_t batch, int64_t size);

// The model is on the CPU while cases are made of it, and where they are measured when they are.

std::vector<OpCase> conv_cases(Module& model, int64_t batch, int64_t size, const BenchPlace& place);
/// Batch norm with its activation and residual, pooling, the head: the model's own layers, which must outlive
/// the cases.
std::vector<OpCase> layer_cases(Module& model, int64_t batch, int64_t size, const BenchPlace& place);
/// Single ops on tensors of shape `image` and some of their own. Attention is at `stage`, the output shape of
/// the first stage.
std::vector<OpCase> plain_cases(const Shape& image, const Shape& stage, const BenchPlace& place);
/// Layers for sequences and normalisation, the norms on tensors of shape `image` too. Part of plain_cases().
std::vector<OpCase> sequence_cases(const Shape& image, const BenchPlace& place);
/// Batches of pictures of that size made on the GPU.
std::vector<OpCase> augment_cases(int64_t batch, int64_t size, const BenchPlace& place);

/// A step of the optimizer that the flags name on the model's parameters.
OpCase optimizer_case(Module& model, const BenchFlags& flags);

/// Shape of the images that the part of `model` at `path` hands on, at that batch size; `otherwise` where it
/// has no such part.
Shape output_shape(Module& model, const std::string& path, int64_t batch, int64_t size,
                   const Shape& otherwise);

using OpFunction = std::function<Tensor(const std::vector<Tensor>&)>;
/// f's forward and backward on random tensors of those shapes, timed as in a step: its inputs come from ops
/// and its output goes to one, so that gradients are handed over and memory is reused as there. `layer`, if
/// it is not null, is what f runs; its gradients are dropped before each run.
OpRun run_of(const std::vector<Shape>& inputs, const OpFunction& f, const BenchPlace& place,
             Module* layer = nullptr);
OpRun run_on_gpu(const std::vector<Shape>& inputs, const OpFunction& f, const BenchPlace& place,
                 Module* layer);
/// "32x64x64x64".
std::string text_of(const Shape& shape);

}  // namespace weft::app
