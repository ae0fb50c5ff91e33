#pragma once

#include <string_view>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

/// Sums of products by Einstein's convention: einsum("bqd,bkd->bqk", {q, k}) is q k^T for a batch. A letter
/// names a dimension; one that is not behind "->" is summed over. Without "->" the result has the letters
/// that occur once, in alphabetical order, as in PyTorch. Each letter has one size everywhere, and occurs
/// once in an operand; there is no "...". The operands are multiplied from left to right, as matrices where
/// something is summed over.
Tensor einsum(std::string_view equation, const std::vector<Tensor>& operands);

}  // namespace weft
