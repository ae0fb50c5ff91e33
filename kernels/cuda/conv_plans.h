// Which of cuDNN's plans may compute a convolution, best first: what tuning chooses from. Needs no GPU.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "weft/kernels/cuda/cudnn.h"

namespace weft::kernels::cuda {

/// All that decides about a convolution's algorithm. All its memory is aligned to 16 bytes: cuDNN makes
/// plans for less, but some of them fail.
struct ConvKey {
  ConvPass pass = ConvPass::forward;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  Conv2dParams params;
  bool tf32 = true;            ///< operands in float may be rounded to TF32
  bool deterministic = false;  ///< the same bits each time
  bool exact = false;          ///< the plain sums: neither Winograd nor FFT
  bool add = false;            ///< backward_input: added to dx
  bool stats = false;          ///< forward: with the statistics of y

  bool operator==(const ConvKey&) const = default;
  /// All of it, in words: "forward bf16 64x32x32x64 ...".
  std::string text() const;
};
struct ConvKeyHash {
  size_t operator()(const ConvKey& key) const;
};

/// Ids of the tensors, in each pass: x or dx, w or dw, y or dy.
enum ConvTensor : int64_t { kConvX = 1, kConvW = 2, kConvY = 3 };

/// The convolution as a graph that is ready for engine_configs().
cudnn::OpGraph conv_graph(const ConvKey& key, const cudnn::Target& target);

/// Whether an engine keeps what the key asks for.
bool suits(const ConvKey& key, const cudnn::EngineConfig& config);
/// The configs that suit, best first: those of heuristics mode A, then those of the fallback.
std::vector<cudnn::EngineConfig> conv_configs(const ConvKey& key, const cudnn::OpGraph& graph,
                                              const cudnn::Target& target);
/// At most `limit` plans of these that need no more than max_workspace bytes; those that cuDNN has to compile
/// first, which takes up to a second each, only where there are hardly any others, and then two at most.
std::vector<std::shared_ptr<const cudnn::Plan>> conv_plans(const ConvKey& key, const cudnn::Target& target,
                                                           size_t limit, int64_t max_workspace);

/// Whether `sums` are `terms` + start, up to what 16 bits round off. Terms that are not finite, or larger
/// than start, can't tell; nothing where none can.
std::optional<bool> are_sums(std::span<const float> terms, std::span<const float> sums, float start);

}  // namespace weft::kernels::cuda
