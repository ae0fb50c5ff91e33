// The memsets of a captured graph as kernels.
#pragma once

#include <cuda_runtime.h>

namespace weft::kernels::cuda {

/// Puts a kernel in the place of each memset on one row of memory. cuDNN clears counters of a few bytes
/// before many of its convolutions; between two kernels a memset node costs some 8 microseconds, a kernel 2.
/// They get the priority of `stream`: what a capture copies from streams to nodes, a memset has not.
void replace_memsets(cudaGraph_t graph, cudaStream_t stream);

}  // namespace weft::kernels::cuda
