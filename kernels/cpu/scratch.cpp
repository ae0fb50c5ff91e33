#include "weft/kernels/cpu/scratch.h"

#include <cstddef>
#include <new>

namespace weft::kernels {

float* allocate_scratch(int64_t count) {
  return static_cast<float*>(::operator new(size_t(count) * sizeof(float), std::align_val_t(64)));
}

void free_scratch(float* p) { ::operator delete(p, std::align_val_t(64)); }

}  // namespace weft::kernels
