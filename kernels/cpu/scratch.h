#pragma once

#include <cstdint>

namespace weft::kernels {

/// Memory for `count` floats, 64-byte aligned, uninitialised; throws std::bad_alloc.
float* allocate_scratch(int64_t count);
void free_scratch(float* p);

}  // namespace weft::kernels
