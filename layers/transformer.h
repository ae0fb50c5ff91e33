// The encoder of Vaswani et al., 2017 (arXiv 1706.03762), as torch.nn.TransformerEncoderLayer and
// TransformerEncoder with batch_first.
#pragma once

#include <memory>
#include <optional>

#include "weft/layers/activation.h"
#include "weft/layers/attention.h"
#include "weft/layers/dropout.h"
#include "weft/layers/normalization.h"

namespace weft {

struct TransformerOptions {
  int64_t dim_feedforward = 2048;
  double dropout = 0.1;
  Activation activation = Activation::relu;  ///< any; PyTorch's "gelu" is Activation::gelu
  double layer_norm_eps = 1e-5;
  bool norm_first = false;  ///< normalise what goes into attention and feed-forward, not what comes out
  bool bias = true;
};

/// One layer: x [N, L, d_model] -> the same shape.
///   norm_first false:  x = norm1(x + attention(x)),  x = norm2(x + feedforward(x))
///   norm_first true:   x = x + attention(norm1(x)),  x = x + feedforward(norm2(x))
/// with feedforward(x) = linear2(activation(linear1(x))). In training dropout goes behind attention,
/// activation and linear2, and on the attention weights. State as in PyTorch: self_attn.in_proj_weight, ...,
/// linear1.weight, linear2.weight, norm1.weight, norm2.bias. All starts as the layers it is made of,
/// PyTorch's too.
class TransformerEncoderLayer : public Module {
 public:
  TransformerEncoderLayer(Module& parent, std::string_view name, int64_t d_model, int64_t nhead,
                          const TransformerOptions& options = {}, Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override { return forward(x, {}); }
  Tensor forward(const Tensor& x, const AttentionMask& mask);
  using Module::operator();
  Tensor operator()(const Tensor& x, const AttentionMask& mask);
  std::string description() const override;

  MultiheadAttention self_attn;
  Linear linear1, linear2;
  LayerNorm norm1, norm2;
  Dropout dropout, dropout1, dropout2;
  ActivationLayer act;  ///< without state unless it learns

 private:
  Tensor attend(const Tensor& x, const AttentionMask& mask);
  Tensor feed_forward(const Tensor& x);

  bool norm_first_;
};

/// num_layers of them, one after the other, and a LayerNorm at the end where final_norm says so (PyTorch's
/// `norm`). State: layers.0.self_attn.in_proj_weight, ..., norm.weight. Unlike PyTorch's, which copies one
/// layer, each starts from numbers of its own.
class TransformerEncoder : public Module {
 public:
  TransformerEncoder(Module& parent, std::string_view name, int64_t num_layers, int64_t d_model,
                     int64_t nhead, const TransformerOptions& options = {}, bool final_norm = false,
                     Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override { return forward(x, {}); }
  Tensor forward(const Tensor& x, const AttentionMask& mask);
  using Module::operator();
  Tensor operator()(const Tensor& x, const AttentionMask& mask);
  std::string description() const override;
  size_t size() const { return list_.size(); }

 private:
  Module layers_{*this, "layers"};
  std::vector<std::unique_ptr<TransformerEncoderLayer>> list_;
  std::optional<LayerNorm> norm_;
};

}  // namespace weft
