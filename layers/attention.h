#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/attention.h"
#include "weft/layers/linear.h"

namespace weft {

struct MultiheadAttentionOptions {
  double dropout = 0;  ///< of the attention weights, in training
  bool bias = true;    ///< of all four projections
  int64_t kdim = 0;    ///< channels of the keys; 0: embed_dim
  int64_t vdim = 0;    ///< channels of the values; 0: embed_dim
};

/// Attention with several heads (Vaswani et al., 2017, section 3.2.2), as torch.nn.MultiheadAttention with
/// batch_first: the query [N, L, E], key [N, S, kdim] and value [N, S, vdim] are projected to E, cut into
/// heads of E / num_heads channels, and what scaled_dot_product_attention() makes of these is projected once
/// more: [N, L, E].
///
/// Parameters as in PyTorch: in_proj_weight [3 E, E] (for query, key and value; xavier_uniform_), where kdim
/// or vdim is not E instead q_proj_weight [E, E], k_proj_weight [E, kdim] and v_proj_weight [E, vdim] (each
/// xavier_uniform_); in_proj_bias [3 E] (0), out_proj.weight [E, E] (as Linear's) and out_proj.bias (0).
/// bias_k, bias_v and zero_attn of PyTorch are not there. A query that the masks
/// leave nothing to attends to 0, so that its output is out_proj's bias (PyTorch: NaN or that, depending on
/// its path).
class MultiheadAttention : public Module {
 public:
  MultiheadAttention(Module& parent, std::string_view name, int64_t embed_dim, int64_t num_heads,
                     const MultiheadAttentionOptions& options = {},
                     Generator& generator = default_generator());

  /// Self-attention: query, key and value are x, [N, L, E]; not with other kdim or vdim.
  Tensor forward(const Tensor& x) override { return forward(x, x, x); }
  /// If `weights` is given, the heads' attention weights go there: [N, num_heads, L, S].
  Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value, const AttentionMask& mask = {},
                 Tensor* weights = nullptr);
  using Module::operator();
  Tensor operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                    const AttentionMask& mask = {}, Tensor* weights = nullptr);
  std::string description() const override;

  Tensor in_proj_weight;                               ///< undefined where kdim or vdim is not embed_dim
  Tensor q_proj_weight, k_proj_weight, v_proj_weight;  ///< defined there alone
  Tensor in_proj_bias;                                 ///< undefined with .bias = false
  Linear out_proj;

 private:
  /// Registers a projection's weight, if it is wanted.
  Tensor weight(const char* name, bool wanted, int64_t out, int64_t in, Generator& generator);
  /// Projection `which` of three, cut into heads: [N, heads, L, E / heads].
  Tensor project(const char* what, int which, const Tensor& x) const;

  int64_t embed_dim_, heads_;
  double dropout_;
  Generator& generator_;
};

}  // namespace weft
