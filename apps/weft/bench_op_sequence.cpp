// Layers for sequences and normalisation for weft bench op: shapes, the layer, and how many bytes each pass
// must move.
#include <memory>

#include "weft/apps/weft/bench_op.h"
#include "weft/layers/attention.h"
#include "weft/layers/batch_norm.h"
#include "weft/layers/conv_transpose.h"
#include "weft/layers/embedding.h"
#include "weft/layers/normalization.h"
#include "weft/layers/transformer.h"

namespace weft::app {
namespace {

/// A layer of type T below a root of its own.
template <class T>
struct Alone : Module {
  template <class... Args>
  explicit Alone(Args&&... args) : layer(*this, "layer", std::forward<Args>(args)...) {}
  T layer;
};

/// forward, backward: elements that the pass must move (0: a matter of multiply-adds). `make` gives the
/// layer's root and what it computes.
struct Entry {
  std::string family, op;
  Shape input;
  double forward, backward;
  std::function<std::pair<std::shared_ptr<Module>, OpFunction>()> make;
  bool indices = false;  // works on indices of its own, not on the input
};

template <class T, class... Args>
auto layer(Args... args) {
  return [=]() -> std::pair<std::shared_ptr<Module>, OpFunction> {
    const auto root = std::make_shared<Alone<T>>(args...);
    return {root, [root](const std::vector<Tensor>& x) { return root->layer(x[0]); }};
  };
}

/// Norms read x and write y, then read x and dy and write dx; on a GPU the sums for weight and bias are a
/// pass of their own over x and dy.
Entry norm(const char* op, const Shape& x, bool affine, const BenchPlace& place,
           std::function<std::pair<std::shared_ptr<Module>, OpFunction>()> make) {
  const double n = double(x.numel());
  return {"norm", op, x, 2 * n, (affine && place.gpu() ? 5 : 3) * n, std::move(make)};
}

/// Batch norm with an activation reads x and writes y, then reads x and dy and writes dx; on a GPU both
/// passes over the rows read theirs.
Entry activated_norm(Activation act, const Shape& x, const BenchPlace& place) {
  const double n = double(x.numel());
  return {"norm",
          concat("batch_norm + ", activation_name(act)),
          x,
          (place.gpu() ? 3 : 2) * n,
          (place.gpu() ? 5 : 3) * n,
          layer<BatchNorm2d>(x[-1], BatchNormOptions{.activation = act})};
}

/// Tokens spread over a table that no cache holds: rows are read and written; then dy is read and the table's
/// gradient is written, set to 0 before.
Entry embedding_entry(int64_t tokens, int64_t entries, int64_t width, const BenchPlace& place) {
  const double rows = double(tokens * width), table = double(entries * width);
  return {"sequence",
          "embedding",
          {tokens, width},
          2 * rows,
          rows + table,
          [=] {
            const auto root = std::make_shared<Alone<Embedding>>(entries, width);
            Tensor index = Tensor::empty({tokens}, DType::i64);
            for (int64_t i = 0; i < tokens; ++i) index.data<int64_t>()[i] = i * 7919 % entries;
            return std::pair<std::shared_ptr<Module>, OpFunction>(
                root, [root, index = index.to(place.device)](const std::vector<Tensor>&) {
                  return root->layer(index);
                });
          },
          true};
}

Entry softmax_entry(const Shape& scores) {
  const double n = double(scores.numel());
  return {"sequence", "masked_softmax causal", scores, 1.5 * n, 3 * n, [] {
            const auto root = std::make_shared<Module>();  // the function keeps it
            return std::pair<std::shared_ptr<Module>, OpFunction>(root, [root](const std::vector<Tensor>& x) {
              return masked_softmax(x[0], {.is_causal = true}, 0.125);
            });
          }};
}

}  // namespace

std::vector<OpCase> sequence_cases(const Shape& image, const BenchPlace& place) {
  const int64_t channels = image[-1];
  const Shape tokens{32, 128, 256};
  const Entry entries[] = {
      activated_norm(Activation::relu, image, place),
      activated_norm(Activation::prelu, image, place),
      activated_norm(Activation::srelu, image, place),
      activated_norm(Activation::silu, image, place),
      activated_norm(Activation::swish_beta, image, place),
      norm("layer_norm", {4096, 768}, true, place, layer<LayerNorm>(int64_t{768})),
      norm("layer_norm", image, true, place, layer<LayerNorm>(channels)),
      norm("group_norm", image, true, place, layer<GroupNorm>(channels % 8 ? 1 : 8, channels)),
      norm("instance_norm", image, false, place, layer<InstanceNorm2d>(channels)),
      embedding_entry(8192, 30000, 512, place),
      softmax_entry({32, 4, 128, 128}),
      {"sequence", "MultiheadAttention", tokens, 0, 0, layer<MultiheadAttention>(tokens[2], int64_t{4})},
      {"sequence", "TransformerEncoderLayer", tokens, 0, 0,
       layer<TransformerEncoderLayer>(tokens[2], int64_t{4},
                                      TransformerOptions{.dim_feedforward = 4 * tokens[2], .dropout = 0})},
      {"sequence",
       "conv_transpose2d",
       {32, 16, 16, 128},
       0,
       0,
       layer<ConvTranspose2d>(int64_t{128}, int64_t{64},
                              ConvTransposeLayerOptions{.kernel = 4, .stride = 2, .padding = 1})},
  };
  const double element = double(size_of(place.dtype));
  std::vector<OpCase> cases;
  for (const Entry& e : entries)
    cases.push_back({.family = e.family,
                     .op = e.op,
                     .shape = text_of(e.input),
                     .passes = {{"forward", element * e.forward}, {"backward", element * e.backward}},
                     .prepare = [e, place] {
                       const auto [root, f] = e.make();
                       root->to(place.device);
                       return run_of(e.indices ? std::vector<Shape>() : std::vector<Shape>{e.input}, f, place,
                                     root.get());
                     }});
  return cases;
}

}  // namespace weft::app
