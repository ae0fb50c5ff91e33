// The memsets of a captured graph as kernels.
#pragma once

#include <cuda_runtime.h>

namespace weft::kernels::cuda {

/// Puts a kernel in the place of each memset on one row of memory. cuDNN clears counters of a few bytes
/// before many of its convolutions; between two kernels a memset node costs some 8 microseconds, a kernel 2.
void replace_memsets(cudaGraph_t graph);

}  // namespace weft::kernels::cuda
