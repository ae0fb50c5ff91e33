// Looking for NaN and infinity.
#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// Whether the tensor holds neither NaN nor infinity, as one of integers never does. On a GPU it waits, and
/// copies the tensor.
bool all_finite(const Tensor& x);

}  // namespace weft
