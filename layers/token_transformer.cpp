#include "weft/layers/token_transformer.h"

#include "weft/layers/init.h"

namespace weft {

TokenTransformer::TokenTransformer(Module* parent, std::string_view name, int64_t vocabulary,
                                   const TokenTransformerOptions& o, Generator& generator)
    : Module(parent, name),
      embedding(*this, "embedding", vocabulary, o.width, {}, generator),
      positions(*this, "positions", o.max_length, o.width, generator),
      dropout(*this, "dropout", o.dropout, generator),
      encoder(*this, "encoder", o.depth, o.width, o.heads,
              {.dim_feedforward = 4 * o.width,
               .dropout = o.dropout,
               .activation = o.activation,
               .norm_first = true},
              true, generator),
      head(*this, "head", o.width, vocabulary, {}, generator),
      causal_(o.causal) {
  const auto matrix = [&](const Tensor& weight) { init::normal_(weight, 0, 0.02, generator); };
  matrix(embedding.weight);
  visit([&](const std::string&, Module& module) {
    if (auto* linear = dynamic_cast<Linear*>(&module)) matrix(linear->weight), init::zeros_(linear->bias);
    if (auto* attention = dynamic_cast<MultiheadAttention*>(&module)) matrix(attention->in_proj_weight);
  });
}

Tensor TokenTransformer::forward(const Tensor& tokens, const Tensor& key_padding_mask) {
  check(tokens.ndim() == 2, "TokenTransformer: the tokens are ", tokens.dtype(), " ", tokens.shape(),
        "; expected i64 [N, L]");
  const Tensor x = dropout(positions(embedding(tokens)));
  return head(encoder(x, {.key_padding_mask = key_padding_mask, .is_causal = causal_}));
}

std::string TokenTransformer::description() const {
  return concat("TokenTransformer(", embedding.weight.size(0), " tokens, width ", embedding.weight.size(1),
                ", depth ", encoder.size(), causal_ ? ", causal)" : ")");
}

}  // namespace weft
