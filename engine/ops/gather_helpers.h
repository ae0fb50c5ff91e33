// Shared by the ops that work by an index; not part of the public API.
#pragma once

#include "weft/engine/tensor.h"

namespace weft::ops {

/// What an index names in a tensor of `shape`: an element for each of its own, or a slice.
struct Places {
  Shape shape;
  int dim = 0;
  Tensor index;
  bool for_each = false;
  int64_t skipped = -1;  ///< the index to which no gradient goes
};
/// Throws unless the index is i64 and lies with x, and on the CPU if one is outside of dimension `dim`.
Places checked_places(const char* op, const Tensor& x, int dim, const Tensor& index, bool for_each = false);
/// The elements of x at these places, in `shape`; recorded as `name`.
Tensor gathered(const char* name, const Tensor& x, const Places& places, const Shape& shape);

}  // namespace weft::ops
