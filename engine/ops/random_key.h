#pragma once

#include "weft/engine/tensor.h"

namespace weft::ops {

/// A key of `generator` where the kernels of `device` read it: [1] of i64. In a captured step each launch of
/// the graph draws the next key, as an eager step would, so `generator` must live as long as the graph.
Tensor random_key(Generator& generator, Device device);

/// The pointer that the kernels take.
inline const uint64_t* key_data(const Tensor& key) {
  return reinterpret_cast<const uint64_t*>(key.data<int64_t>());
}

}  // namespace weft::ops
