// Blocks that run at the same time and wait for each other by way of global memory.
#pragma once

#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {

/// Where the blocks of a group come together, in global memory, 0 at first and used by one kernel at a time.
/// Between its arrival and its wait a block is not held up; behind the wait it sees what the others wrote to
/// global memory before they arrived. Blocks are 1-d, and all threads come to each part.
struct Meeting {
  unsigned arrived, turn;

  /// Of the group's `count` blocks. The result is for wait().
  __device__ unsigned arrive([[maybe_unused]] unsigned count) {
    unsigned now = 0;
#ifdef __CUDACC__  // on the emulated device the wait does both
    __syncthreads();
    if (threadIdx.x == 0) {
      // The turn can't pass before this block has arrived.
      asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];"
                   : "=r"(now)
                   : "l"(__cvta_generic_to_global(&turn))
                   : "memory");
      unsigned before;
      asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                   : "=r"(before)
                   : "l"(__cvta_generic_to_global(&arrived)), "r"(count - 1)
                   : "memory");
      if (before == count - 1)
        asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(&turn)),
                     "r"(now + 1)
                     : "memory");
    }
#endif
    return now;
  }
  __device__ void wait([[maybe_unused]] unsigned arrival) {
#ifndef __CUDACC__
    weft_emulator::meet();
#else
    if (threadIdx.x == 0) {
      unsigned now;
      do
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                     : "=r"(now)
                     : "l"(__cvta_generic_to_global(&turn))
                     : "memory");
      while (now == arrival);
    }
    __syncthreads();
#endif
  }
};

/// As launch_early(), for blocks that meet: those of each blockIdx.x. All blocks have to run at once, so
/// there are at most as many as multiprocessors, and can_launch_together(). No other kernel that does so may
/// run beside; one that does not ends some time, and then the blocks that had to wait for it begin.
template <class... Params, class... Args>
void launch_together(void (*kernel)(Params...), dim3 grid, dim3 block, Args&&... args) {
#ifdef __CUDACC__
  launch_early(kernel, grid, block, args...);
#else
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  launch_with(&together, 1, 0, kernel, grid, block, args...);
#endif
}

}  // namespace weft::kernels::cuda
