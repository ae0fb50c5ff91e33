// Reductions over the threads of a warp or a block, and over all blocks of a kernel, in an order that is
// always the same.
#pragma once

#include <cmath>
#include <limits>

#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

/// The sum over the warp, the same bits in all its lanes.
template <class T>
__device__ inline T warp_sum(T v) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) v += __shfl_xor_sync(kAllLanes, v, distance);
  return v;
}

/// The maximum over the warp; what a NaN among the values gives is left open.
template <class T>
__device__ inline T warp_max(T v) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, v, distance);
    v = other > v ? other : v;
  }
  return v;
}

/// The largest value met so far and its place: NaN counts as the largest, and of equal ones the first wins.
struct Best {
  float value = -INFINITY;
  long long at = std::numeric_limits<long long>::max();  // nothing met

  __device__ void meet(float v, long long i) {
    const bool equal = v == value || (v != v && value != value);
    if (equal ? i < at : v > value || v != v) value = v, at = i;
  }
  /// What the lanes of the warp have met, for all of them.
  __device__ void join_warp() {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      const float v = __shfl_xor_sync(kAllLanes, value, distance);
      meet(v, __shfl_xor_sync(kAllLanes, at, distance));
    }
  }
};

/// Of `count` threads, one of each block, that call it with this counter: whether this is the last one. It
/// sees what the others wrote to global memory before. The counter is 0 before and after.
__device__ inline bool is_last(unsigned* counter, unsigned count) {
#ifdef __CUDA_ARCH__
  unsigned before;  // less to wait for than atomicInc() between two __threadfence()
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(counter)), "r"(count - 1)
               : "memory");
  return before == count - 1;
#else
  return atomicInc(counter, count - 1) == count - 1;
#endif
}
/// The same for whole blocks: true in all threads of the last one of those that call it. Blocks are 1-d.
__device__ inline bool last_to_arrive(unsigned* counter, unsigned count) {
  // What one thread releases and acquires holds for the whole block, because it lies between its barriers
  // (PTX ISA, "Causality order"): as in the grid barrier of cooperative groups.
  __syncthreads();
  return __syncthreads_or(threadIdx.x == 0 && is_last(counter, count)) != 0;
}

}  // namespace weft::kernels::cuda
