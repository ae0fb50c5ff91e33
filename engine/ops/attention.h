// Attention: softmax(q k^T) v under masks.
#pragma once

#include <optional>

#include "weft/engine/tensor.h"

namespace weft {

/// What leaves a query only some of the keys.
struct AttentionMask {
  /// Added to the scores, [L, S], [N, L, S] or [N, H, L, S], sizes of 1 stretch: -inf leaves a key out.
  /// Floating (converted to the scores' dtype, f32 beside 16 bits), or u8, where another value than 0 leaves
  /// it out. A constant: it gets no gradient. Add what is learned to the scores.
  Tensor attn_mask = {};
  /// u8 [N, S]: keys of a sample that are padding, another value than 0, are left out.
  Tensor key_padding_mask = {};
  /// Query i sees the keys 0 .. i alone.
  bool is_causal = false;
};

/// softmax(scale x + mask) over the last dimension of x [L, S], [N, L, S] or [N, H, L, S], in one pass. Keys
/// that are left out have weight 0 and are not looked at, whatever they hold. A query that nothing is left to
/// has weight 0 everywhere, where a plain softmax would be NaN; so its output is 0 and its gradient 0.
Tensor masked_softmax(const Tensor& x, const AttentionMask& mask = {}, double scale = 1);

struct AttentionOptions {
  AttentionMask mask = {};
  double dropout_p = 0;              ///< of the weights; drawn from `generator`
  std::optional<double> scale = {};  ///< default: 1 / sqrt(E)
  Generator* generator = nullptr;    ///< default: default_generator()
};

/// softmax(scale q k^T + mask) v (Vaswani et al., 2017, arXiv 1706.03762, equation 1): q [N, H, L, E], k [N,
/// H, S, E], v [N, H, S, V] -> [N, H, L, V]; or all without H. Queries that nothing is left to give 0, as in
/// PyTorch. If `weights` is given, the weights go there (before dropout), [N, H, L, S].
Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options = {}, Tensor* weights = nullptr);

}  // namespace weft
