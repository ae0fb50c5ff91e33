#pragma once

#include <optional>

#include "weft/engine/tensor.h"

namespace weft {

struct EmbeddingOptions {
  /// The entry that gets no gradient, negative ones counted from the end. Default: none.
  std::optional<int64_t> padding_idx = {};
};

/// Rows of a table by their index: index i64 [...], weight [entries, width] -> [..., width], in the dtype of
/// the weight, or of the copy of it that is in use (WeightCopies: in 16 bits also within the loss of a
/// training step, which takes cast(..., DType::f32)). Its gradient adds the rows of equal indices up in their
/// order, so it has the same bits for any number of threads. On the CPU an index outside of the table is an
/// Error; on a GPU indices are not looked at, and such a row is NaN.
Tensor embedding(const Tensor& index, const Tensor& weight, const EmbeddingOptions& options = {});

}  // namespace weft
