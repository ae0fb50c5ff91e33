#include "weft/layers/embedding.h"

#include <algorithm>

namespace weft {

Embedding::Embedding(Module& parent, std::string_view name, int64_t num_embeddings, int64_t embedding_dim,
                     const EmbeddingOptions& options, Generator& generator)
    : Module(parent, name), options_(options) {
  check(num_embeddings > 0 && embedding_dim > 0, "Embedding ", name, ": ", num_embeddings, " entries of ",
        embedding_dim, " numbers; both must be positive");
  weight = register_parameter("weight", Tensor::normal({num_embeddings, embedding_dim}, 0, 1, generator));
  if (!options.padding_idx) return;
  int64_t& padding = *options_.padding_idx;
  if (padding < 0) padding += num_embeddings;
  check(padding >= 0 && padding < num_embeddings, "Embedding ", name, ": padding_idx ", *options.padding_idx,
        " is not one of the ", num_embeddings, " entries");
  std::fill_n(weight.data<float>() + padding * embedding_dim, embedding_dim, 0.0f);
}

std::string Embedding::description() const {
  std::string s = concat("Embedding(", weight.size(0), ", ", weight.size(1));
  if (options_.padding_idx) s += concat(", padding ", *options_.padding_idx);
  return s + ")";
}

}  // namespace weft
