// Clusters of thread blocks (from sm_90 on): blocks that run at the same time, wait for each other and read
// each other's shared memory. Below sm_90, and where a kernel is launched without them, a block is a cluster
// alone.
#pragma once

#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {

/// The block's number in its cluster (x fastest, as in the grid).
__device__ inline unsigned cluster_rank() {
#if !defined(__CUDA_ARCH__)
  return __clusterRelativeBlockRank();
#elif __CUDA_ARCH__ >= 900
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

/// How many blocks the cluster has.
__device__ inline unsigned cluster_size() {
#if !defined(__CUDA_ARCH__)
  return __clusterSizeInBlocks();
#elif __CUDA_ARCH__ >= 900
  unsigned size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
#else
  return 1;
#endif
}

/// A barrier for all threads of all blocks of the cluster, in two parts: what a thread does between its
/// arrival and its wait is not held up. Behind the wait all is seen that others wrote, to shared and global
/// memory, before they arrived. All threads of a warp come to each part together.
__device__ inline void cluster_arrive() {
#if !defined(__CUDA_ARCH__)
  __cluster_barrier_arrive();
#elif __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ inline void cluster_wait() {
#if !defined(__CUDA_ARCH__)
  __cluster_barrier_wait();
#elif __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  __syncthreads();
#endif
}
__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

/// The same place in the shared memory of block `rank` of the cluster. `p` points into a __shared__ array of
/// the kernel itself, not of a function that it calls. It may be touched after a barrier, by which the
/// other block has begun (and written what is read), and before another, behind which that may end or write
/// anew.
template <class T>
__device__ inline T* in_cluster(T* p, [[maybe_unused]] unsigned rank) {
#if !defined(__CUDA_ARCH__)
  return static_cast<T*>(__cluster_map_shared_rank(p, rank));
#elif __CUDA_ARCH__ >= 900
  T* place;
  asm("mapa.u64 %0, %1, %2;" : "=l"(place) : "l"(p), "r"(rank));
  return place;
#else
  return p;
#endif
}

/// As launch_early(), in clusters of cluster.x * cluster.y * cluster.z blocks, up to 16 (of more than 8 not
/// every GPU has room for as many at a time). The grid is a multiple of `cluster` in each direction. Where
/// there are no clusters (can_launch_early() is false there) only those of one block can be launched.
template <class... Params, class... Args>
void launch_clusters(void (*kernel)(Params...), dim3 grid, dim3 block, dim3 cluster, Args&&... args) {
  const unsigned blocks = cluster.x * cluster.y * cluster.z;
  if (blocks == 1) return launch_early(kernel, grid, block, args...);
  if (blocks > 8)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
          "cudaFuncSetAttribute");
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = cluster.x;
  attributes[0].val.clusterDim.y = cluster.y;
  attributes[0].val.clusterDim.z = cluster.z;
  attributes[1] = early_attribute();
  launch_with(attributes, can_launch_early() ? 2 : 1, 0, kernel, grid, block, args...);
}

}  // namespace weft::kernels::cuda
