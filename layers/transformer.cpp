#include "weft/layers/transformer.h"

#include "weft/engine/checkpoint.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/tape.h"

namespace weft {

namespace {
/// layer.forward(x, mask), of which only x is kept where the layer recomputes().
template <class Layer>
Tensor forward_of(Layer& layer, const Tensor& x, const AttentionMask& mask) {
  if (!layer.recomputes() || !layer.training()) return layer.forward(x, mask);
  return checkpoint([&layer, mask](const Tensor& again) { return layer.forward(again, mask); }, x);
}
}  // namespace

TransformerEncoderLayer::TransformerEncoderLayer(Module& parent, std::string_view name, int64_t d_model,
                                                 int64_t nhead, const TransformerOptions& o,
                                                 Generator& generator)
    : Module(parent, name),
      self_attn(*this, "self_attn", d_model, nhead, {.dropout = o.dropout, .bias = o.bias}, generator),
      linear1(*this, "linear1", d_model, o.dim_feedforward, {.bias = o.bias}, generator),
      linear2(*this, "linear2", o.dim_feedforward, d_model, {.bias = o.bias}, generator),
      norm1(*this, "norm1", d_model, {.eps = o.layer_norm_eps, .bias = o.bias}),
      norm2(*this, "norm2", d_model, {.eps = o.layer_norm_eps, .bias = o.bias}),
      dropout(*this, "dropout", o.dropout, generator),
      dropout1(*this, "dropout1", o.dropout, generator),
      dropout2(*this, "dropout2", o.dropout, generator),
      act(*this, "act", o.activation, {}, o.dim_feedforward, generator),
      norm_first_(o.norm_first) {}

Tensor TransformerEncoderLayer::attend(const Tensor& x, const AttentionMask& mask) {
  return dropout1(self_attn(x, x, x, mask));
}

Tensor TransformerEncoderLayer::feed_forward(const Tensor& x) {
  return dropout2(linear2(dropout(act(linear1(x)))));
}

Tensor TransformerEncoderLayer::forward(const Tensor& x, const AttentionMask& mask) {
  if (norm_first_) {
    const Tensor y = x + attend(norm1(x), mask);
    return y + feed_forward(norm2(y));
  }
  const Tensor y = norm1(x + attend(x, mask));
  return norm2(y + feed_forward(y));
}

Tensor TransformerEncoderLayer::operator()(const Tensor& x, const AttentionMask& mask) {
  return call(x, [&](const Tensor& in) { return forward_of(*this, in, mask); });
}

std::string TransformerEncoderLayer::description() const {
  return concat("TransformerEncoderLayer(", linear1.weight.size(1), ", feed-forward ", linear1.weight.size(0),
                ", ", act.description(), norm_first_ ? ", norm first)" : ")");
}

TransformerEncoder::TransformerEncoder(Module& parent, std::string_view name, int64_t num_layers,
                                       int64_t d_model, int64_t nhead, const TransformerOptions& options,
                                       bool final_norm, Generator& generator)
    : Module(parent, name) {
  check(num_layers > 0, "TransformerEncoder ", name, ": ", num_layers, " layers; there must be at least one");
  for (int64_t i = 0; i < num_layers; ++i)
    list_.push_back(std::make_unique<TransformerEncoderLayer>(layers_, std::to_string(i), d_model, nhead,
                                                              options, generator));
  if (final_norm)
    norm_.emplace(*this, "norm", d_model,
                  LayerNormOptions{.eps = options.layer_norm_eps, .bias = options.bias});
}

Tensor TransformerEncoder::forward(const Tensor& x, const AttentionMask& mask) {
  Tensor y = x;
  {
    const ScopeName scope(layers_.name());
    for (const auto& layer : list_) y = (*layer)(y, mask);
  }
  return norm_ ? (*norm_)(y) : y;
}

Tensor TransformerEncoder::operator()(const Tensor& x, const AttentionMask& mask) {
  return call(x, [&](const Tensor& in) { return forward_of(*this, in, mask); });
}

std::string TransformerEncoder::description() const {
  return concat("TransformerEncoder(", list_.size(), " layers)");
}

}  // namespace weft
