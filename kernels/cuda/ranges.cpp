// Named ranges in NVIDIA's profilers.
#include <cstdlib>

#include "weft/kernels/cuda.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define WEFT_HAS_NVTX 1
#else
#define WEFT_HAS_NVTX 0
#endif

namespace weft::kernels::cuda {

bool ranges_on() {
  static const bool on = WEFT_HAS_NVTX && std::getenv("WEFT_NVTX") != nullptr;
  return on;
}

void push_range([[maybe_unused]] const char* name) {
#if WEFT_HAS_NVTX
  nvtxRangePushA(name);
#endif
}

void pop_range() {
#if WEFT_HAS_NVTX
  nvtxRangePop();
#endif
}

}  // namespace weft::kernels::cuda
