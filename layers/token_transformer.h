#pragma once

#include "weft/layers/embedding.h"
#include "weft/layers/positions.h"
#include "weft/layers/transformer.h"

namespace weft {

struct TokenTransformerOptions {
  int64_t max_length = 256, width = 128, depth = 2, heads = 4;
  double dropout = 0;
  bool causal = true;  ///< each place sees itself and those before
  Activation activation = Activation::gelu;
};

/// A small transformer over tokens: i64 [N, L] -> logits of the next token, or of each place's label, [N, L,
/// vocabulary]. Embedding, learned positions, an encoder that normalises first with feed-forward layers of
/// four times the width, LayerNorm, Linear: GPT-2's plan (Radford et al., 2019), without its tied head.
/// Embedding and matrices start with normal numbers of standard deviation 0.02, biases at 0, as there.
class TokenTransformer : public Module {
 public:
  explicit TokenTransformer(int64_t vocabulary, const TokenTransformerOptions& options = {},
                            Generator& generator = default_generator())
      : TokenTransformer(nullptr, {}, vocabulary, options, generator) {}
  TokenTransformer(Module& parent, std::string_view name, int64_t vocabulary,
                   const TokenTransformerOptions& options = {}, Generator& generator = default_generator())
      : TokenTransformer(&parent, name, vocabulary, options, generator) {}

  Tensor forward(const Tensor& tokens) override { return forward(tokens, Tensor()); }
  /// key_padding_mask: u8 [N, L], not 0 where a token is padding.
  Tensor forward(const Tensor& tokens, const Tensor& key_padding_mask);
  std::string description() const override;

  Embedding embedding;
  LearnedPositions positions;
  Dropout dropout;
  TransformerEncoder encoder;
  Linear head;

 private:
  TokenTransformer(Module* parent, std::string_view name, int64_t vocabulary,
                   const TokenTransformerOptions& options, Generator& generator);

  bool causal_;
};

}  // namespace weft
