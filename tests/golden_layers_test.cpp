// Layers for sequences and normalisation against values computed by PyTorch (golden/layers.safetensors).
#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>

#include "support/golden.h"
#include "weft/weft.h"

using namespace weft;
using golden::Case;

namespace {

/// The result of a case, and the layer that has its parameters, if one made it.
struct Ran {
  Tensor out;
  std::shared_ptr<Module> root = {};
};
using Run = std::function<Ran(const Case&)>;

/// A case's layer under "layer", in the inputs' dtype, its state that of the case.
template <class Layer, class... Args>
std::pair<std::shared_ptr<Module>, Layer*> layer_of(const Case& c, DType dtype, Args&&... args) {
  struct Root : Module {
    std::unique_ptr<Module> child;
  };
  auto root = std::make_shared<Root>();
  auto made = std::make_unique<Layer>(*root, "layer", std::forward<Args>(args)...);
  Layer* layer = made.get();
  root->child = std::move(made);
  root->to(dtype);
  StateDict state;
  for (const auto& [name, tensor] : layer->state_dict()) state.emplace_back(name, c[name]);
  layer->load_state_dict(state);
  return {root, layer};
}

Tensor as_u8(const Tensor& mask) { return mask.defined() ? mask.to(DType::u8) : mask; }

ConvTransposeOptions transpose_options(const Case& c) {
  return {.stride = c.integer("stride"),
          .padding = c.integer("padding"),
          .output_padding = c.integer("output_padding"),
          .dilation = c.integer("dilation"),
          .groups = c.integer("groups")};
}

Ran run_layer_norm(const Case& c) {
  std::vector<int64_t> sizes;
  for (int64_t i = -c.integer("dims"); i < 0; ++i) sizes.push_back(c["x"].size(int(i)));
  return {layer_norm(c["x"], sizes, c["weight"], c["bias"], c.number("eps"))};
}

Ran run_embedding(const Case& c) {
  EmbeddingOptions o;
  if (c.has("padding")) o.padding_idx = c.integer("padding");
  return {embedding(c["index"], c["weight"], o)};
}

Ran run_sdpa(const Case& c) {
  const AttentionMask mask{.attn_mask = c["mask"].defined() ? c["mask"] : as_u8(c["left_out"]),
                           .is_causal = c.flag("causal")};
  return {scaled_dot_product_attention(c["q"], c["k"], c["v"], {.mask = mask})};
}

Ran run_mha(const Case& c) {
  const auto [root, layer] =
      layer_of<MultiheadAttention>(c, c["query"].dtype(), c["query"].size(2), c.integer("heads"),
                                   MultiheadAttentionOptions{.bias = c.flag("bias"),
                                                             .kdim = c.has("kdim") ? c.integer("kdim") : 0,
                                                             .vdim = c.has("vdim") ? c.integer("vdim") : 0});
  const bool self = !c["key"].defined();
  return {layer->forward(c["query"], self ? c["query"] : c["key"], self ? c["query"] : c["value"],
                         {.key_padding_mask = as_u8(c["padding"]), .is_causal = c.flag("causal")}),
          root};
}

Ran run_encoder_layer(const Case& c) {
  const auto [root, layer] = layer_of<TransformerEncoderLayer>(
      c, c["x"].dtype(), 6, 2,
      TransformerOptions{.dim_feedforward = 9,
                         .dropout = 0,
                         .activation = activation_by_name(c.text("activation")),
                         .norm_first = c.flag("norm_first")});
  return {layer->forward(c["x"], {.key_padding_mask = as_u8(c["padding"])}), root};
}

Ran run_encoder(const Case& c) {
  const auto [root, layer] = layer_of<TransformerEncoder>(
      c, c["x"].dtype(), 2, 4, 2,
      TransformerOptions{
          .dim_feedforward = 5, .dropout = 0, .activation = Activation::gelu, .norm_first = true},
      true);
  return {layer->forward(c["x"], {.is_causal = true}), root};
}

/// Two forward passes in training, as the power iteration of the case.
template <class Layer, class Options>
Ran run_wrapped(const Case& c, int64_t in, int64_t out, const Options& options, int passes) {
  const auto [root, layer] = layer_of<Layer>(c, c["x"].dtype(), in, out, options);
  for (int i = 1; i < passes; ++i) layer->forward(c["x"].detach());
  return {layer->forward(c["x"]), root};
}
template <template <class> class Wrapper>
Ran run_parametrized(const Case& c, int passes) {
  if (c.text("layer") == "linear") return run_wrapped<Wrapper<Linear>>(c, 5, 3, LinearOptions{}, passes);
  if (c.text("layer") == "conv2d")
    return run_wrapped<Wrapper<Conv2d>>(c, 3, 5, Conv2dLayerOptions{.kernel = 2}, passes);
  return run_wrapped<Wrapper<ConvTranspose2d>>(c, 4, 5, ConvTransposeLayerOptions{.kernel = 2}, passes);
}

Ran run_self_attention(const Case& c) {
  const auto [root, layer] = layer_of<SelfAttention>(c, c["x"].dtype(), 16);
  return {layer->forward(c["x"]), root};
}

Ran run_positions(const Case& c) {
  Module root;
  return {SinusoidalPositions(root, "positions").forward(c["x"])};
}

const std::map<std::string, Run> kinds = {
    {"layer_norm", run_layer_norm},
    {"group_norm",
     [](const Case& c) {
       return Ran{group_norm(c["x"], c.integer("groups"), c["weight"], c["bias"], c.number("eps"))};
     }},
    {"instance_norm", [](const Case& c) { return Ran{instance_norm(c["x"], c["weight"], c["bias"])}; }},
    {"embedding", run_embedding},
    {"conv_transpose2d",
     [](const Case& c) {
       return Ran{conv_transpose2d(c["x"], c["weight"], c["bias"], transpose_options(c))};
     }},
    {"conv_transpose1d",
     [](const Case& c) {
       return Ran{conv_transpose1d(c["x"], c["weight"], c["bias"], transpose_options(c))};
     }},
    {"conv1d",
     [](const Case& c) {
       return Ran{conv1d(c["x"], c["weight"], c["bias"],
                         {.stride = c.integer("stride"),
                          .padding = c.integer("padding"),
                          .dilation = c.integer("dilation"),
                          .groups = c.integer("groups")})};
     }},
    {"sdpa", run_sdpa},
    {"mha", run_mha},
    {"encoder_layer", run_encoder_layer},
    {"encoder", run_encoder},
    {"spectral", [](const Case& c) { return run_parametrized<SpectralNorm>(c, 2); }},
    {"weight_norm", [](const Case& c) { return run_parametrized<WeightNorm>(c, 1); }},
    {"self_attention", run_self_attention},
    {"positions", run_positions},
    {"positions_2d",
     [](const Case& c) {
       const Tensor table = sinusoidal_positions_2d(c.integer("height"), c.integer("width"), c["x"].size(2));
       return Ran{c["x"] + table.to(c["x"].dtype())};
     }},
};

// As in golden_ops_test, with room in f32 for the longer chains of layers.
golden::Tolerance tolerance(DType dtype, DType stored, bool layer) {
  if (dtype == DType::f32) return layer ? golden::Tolerance{2e-4, 1e-5} : golden::Tolerance{1e-5, 3e-6};
  if (stored == DType::f32) return {1.2e-7, 1e-12};
  return {1e-11, 1e-13};
}

void compare_all(DType dtype) {
  std::set<std::string> seen;
  for (const Case& c : golden::load("layers.safetensors", dtype)) {
    CAPTURE(c.name());
    const auto kind = kinds.find(c.kind());
    REQUIRE_MESSAGE(kind != kinds.end(), "no code for kind ", c.kind());
    seen.insert(c.kind());
    Tape tape;
    const Ran ran = kind->second(c);
    tape.backward(ran.out, c["grad_out"]);
    StateDict state;
    if (ran.root)
      for (const auto& [name, tensor] : ran.root->state_dict())
        state.emplace_back(name.substr(name.find('.') + 1), tensor);
    for (const auto& expected : c.expected()) {
      const std::string& what = expected.first;
      const Tensor& wanted = expected.second;
      const std::string subject = what.substr(what.find('.') + 1);
      const Tensor of_layer = find(state, subject), source = of_layer.defined() ? of_layer : c[subject];
      const Tensor result = what == "out" ? ran.out : what.rfind("grad.", 0) == 0 ? source.grad() : source;
      const std::string off =
          golden::difference(result, wanted, tolerance(dtype, wanted.dtype(), ran.root != nullptr));
      CHECK_MESSAGE(off.empty(), what, " ", off);
    }
  }
  for (const auto& kind : kinds) CHECK_MESSAGE(seen.count(kind.first) == 1, "no case of kind ", kind.first);
}

}  // namespace

TEST_CASE("layers agree with PyTorch in f32") { compare_all(DType::f32); }

TEST_CASE("layers agree with PyTorch in f64") { compare_all(DType::f64); }
