#include "weft/kernels/cuda/conv_plans.h"

#include <cmath>
#include <functional>
#include <utility>

namespace weft::kernels::cuda {

using namespace cudnn;

std::string ConvKey::text() const {
  const Conv2dParams& p = params;
  static constexpr const char* kPasses[] = {"forward", "backward_input", "backward_weight"};
  std::string s = kPasses[int(pass)];
  const auto word = [&](const char* name, std::initializer_list<int64_t> values) {
    s.append(" ").append(name);
    const char* between = "";
    for (const int64_t v : values) s.append(std::exchange(between, "x")).append(std::to_string(v));
  };
  s += type == CUDNN_DATA_FLOAT ? " f32" : type == CUDNN_DATA_HALF ? " f16" : " bf16";
  word("x", {p.batch, p.in_h, p.in_w, p.in_c});
  word("w", {p.out_c, p.kernel_h, p.kernel_w, p.in_c / p.groups});
  word("stride", {p.stride_h, p.stride_w});
  word("pad", {p.pad_h, p.pad_w});
  word("dilation", {p.dilation_h, p.dilation_w});
  word("groups", {p.groups});
  if (tf32) s += " tf32";
  if (deterministic) s += " deterministic";
  if (exact) s += " exact";
  if (add) s += " add";
  if (stats) s += " stats";
  return s;
}

size_t ConvKeyHash::operator()(const ConvKey& key) const {
  const Conv2dParams& p = key.params;
  size_t hash = size_t(key.pass) * 1024 + size_t(key.stats) * 512 + size_t(key.add) * 256 +
                size_t(key.type) * 16 + size_t(key.tf32) * 4 + size_t(key.deterministic) * 2 +
                size_t(key.exact);
  for (const int64_t v : {p.batch, p.in_h, p.in_w, p.in_c, p.out_c, p.kernel_h, p.kernel_w, p.stride_h,
                          p.stride_w, p.pad_h, p.pad_w, p.dilation_h, p.dilation_w, p.groups})
    hash = (hash ^ size_t(v)) * 0x9e3779b97f4a7c15u + (hash >> 29);
  return hash;
}

OpGraph conv_graph(const ConvKey& key, const Target& target) {
  const Conv2dParams& p = key.params;
  const int64_t oh = p.out_h(), ow = p.out_w(), c = p.out_c;
  OpGraph graph;
  const int x = graph.tensor(channels_last(kConvX, key.type, p.batch, p.in_h, p.in_w, p.in_c));
  const int w = graph.tensor(channels_last(kConvW, key.type, c, p.kernel_h, p.kernel_w, p.in_c / p.groups));
  const int y = graph.tensor(channels_last(kConvY, key.type, p.batch, oh, ow, c));
  graph.convolution(key.pass, p, x, w, y, key.add);
  graph.finalize(target);
  return graph;
}

bool suits(const ConvKey& key, const EngineConfig& config) {
  if (config.has(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)) return false;
  if (key.deterministic && config.has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)) return false;
  if (key.type == CUDNN_DATA_FLOAT && !key.tf32 &&
      (config.has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE) || config.has(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)))
    return false;
  if (key.exact && (config.has(CUDNN_NUMERICAL_NOTE_WINOGRAD) || config.has(CUDNN_NUMERICAL_NOTE_FFT)))
    return false;
  return true;
}

std::vector<EngineConfig> conv_configs(const ConvKey& key, const OpGraph& graph, const Target& target) {
  std::vector<EngineConfig> suitable;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (EngineConfig& config : engine_configs(graph, target, mode))
      if (suits(key, config)) suitable.push_back(std::move(config));
  return suitable;
}

std::vector<std::shared_ptr<const Plan>> conv_plans(const ConvKey& key, const Target& target, size_t limit,
                                                    int64_t max_workspace) {
  // Compiling takes up to a second for each plan, which counts where a whole training run takes fifteen.
  constexpr size_t kMaxCompiled = 2, kEnough = 3;
  std::vector<std::shared_ptr<const Plan>> found;
  try {
    const OpGraph graph = conv_graph(key, target);
    const std::vector<EngineConfig> configs = conv_configs(key, graph, target);
    const auto take = [&](bool compiled, size_t tries) {
      for (const EngineConfig& config : configs) {
        if (found.size() == limit) return;
        if (config.has(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != compiled) continue;
        if (tries-- == 0) return;
        try {
          auto plan = std::make_shared<const Plan>(config, target);
          if (plan->workspace() <= max_workspace) found.push_back(std::move(plan));
        } catch (const Error&) {
          // This device or driver has no use for it; the next one may do.
        }
      }
    };
    take(false, configs.size());
    if (found.size() < kEnough) take(true, kMaxCompiled);
  } catch (const Error&) {
    // cuDNN can't express the shape.
  }
  return found;
}

std::optional<bool> are_sums(std::span<const float> terms, std::span<const float> sums, float start) {
  std::optional<bool> told;
  for (size_t i = 0; i < terms.size(); ++i) {
    if (!(std::abs(terms[i]) <= start)) continue;
    if (!(std::abs(sums[i] - terms[i] - start) <= start / 16)) return false;
    told = true;
  }
  return told;
}

}  // namespace weft::kernels::cuda
