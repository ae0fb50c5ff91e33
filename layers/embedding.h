#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/embedding.h"

namespace weft {

/// A table of vectors and their choice by index: i64 [...] -> [..., embedding_dim]. The weight
/// [num_embeddings, embedding_dim] starts as in PyTorch: normal numbers, 0 in row padding_idx, which gets no
/// gradient.
class Embedding : public Module {
 public:
  Embedding(Module& parent, std::string_view name, int64_t num_embeddings, int64_t embedding_dim,
            const EmbeddingOptions& options = {}, Generator& generator = default_generator());

  Tensor forward(const Tensor& index) override { return embedding(index, weight, options_); }
  std::string description() const override;

  Tensor weight;

 private:
  EmbeddingOptions options_;
};

}  // namespace weft
