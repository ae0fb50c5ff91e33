// Drawing the pictures of the sample set; not part of the public API.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weft/engine/data/image.h"

namespace weft::data {

/// The shapes' names, sorted.
std::vector<std::string> shape_names();
/// A picture with shape number `shape` in it. All chance comes from the stream (seed, stream).
Image draw_shape(int shape, int pixels, uint64_t seed, uint64_t stream);

}  // namespace weft::data
