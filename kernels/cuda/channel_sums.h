// Sums over the rows for each channel: those of a block's threads become one partial result for each block
// and channel, and a second kernel adds these up in a fixed order.
#pragma once

#include "weft/kernels/cuda/channels.h"
#include "weft/kernels/cuda/reduction.h"

namespace weft::kernels::cuda {

/// Adds up what the block's threads of the same channels have. partial: [row blocks, N, channels].
template <int N, int V>
__device__ inline void store_block_sums(const Tiling& t, const Place<V>& at, float (&sums)[N][V],
                                        float* partial) {
  constexpr int kWarps = kReduceThreads / kWarp;
  alignas(16) __shared__ float room[N][kWarps][kMaxColumns];
  const int thread = int(threadIdx.x), columns = t.lanes * V, channel = int(blockIdx.x) * columns + thread;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    for (int distance = t.lanes; distance < kWarp; distance *= 2)
#pragma unroll
      for (int j = 0; j < V; ++j) sums[k][j] += __shfl_xor_sync(kAllLanes, sums[k][j], distance);
    if (thread % kWarp < t.lanes) store_floats(&room[k][thread / kWarp][at.lane * V], sums[k]);
  }
  __syncthreads();
  if (thread >= columns || channel >= t.channels) return;
  float* to = partial + int64_t(blockIdx.y) * N * t.channels + channel;
#pragma unroll
  for (int k = 0; k < N; ++k, to += t.channels) {
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) sum += room[k][warp][thread];
    *to = sum;
  }
}

/// Where N sums of each channel go, [channels] each: to `of` and, unless null, `also`. A sum is multiplied by
/// its `scale`, [channels], unless that is null.
template <int N>
struct SumTargets {
  float* of[N] = {};
  const float* scale[N] = {};
  float* also[N] = {};
};
constexpr int kSumColumns = 32, kSumGroups = 8;

/// What the groups of threads have.
using SumRoom = double[kSumGroups][kSumColumns];

/// The sum of from[block * apart] over the blocks, for the threads of the first of kSumGroups groups, where
/// `exists` for the group's column.
__device__ inline double sum_of_blocks(int blocks, const float* from, int64_t apart, bool exists,
                                       SumRoom& room) {
  const int column = int(threadIdx.x) % kSumColumns, group = int(threadIdx.x) / kSumColumns;
  double sum = 0;
  if (exists)
#pragma unroll 8
    for (int block = group; block < blocks; block += kSumGroups) sum += double(from[block * apart]);
  room[group][column] = sum;
  __syncthreads();
  if (group > 0) return 0;
  for (int other = 1; other < kSumGroups; ++other) sum += room[other][column];
  return sum;
}

/// Adds up the partial results of `blocks` blocks: kSumGroups threads for each sum and channel.
template <int N>
__global__ void __launch_bounds__(kSumColumns* kSumGroups)
    combine_sums_kernel(int blocks, int64_t channels, const float* partial, SumTargets<N> to) {
  __shared__ SumRoom room;
  wait_for_earlier();
  const int column = int(threadIdx.x) % kSumColumns;
  const int64_t at = int64_t(blockIdx.x) * kSumColumns + column, all = N * channels;
  double sum = sum_of_blocks(blocks, partial + at, all, at < all, room);
  if (int(threadIdx.x) >= kSumColumns || at >= all) return;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int64_t c = at - i * channels;
    if (c < 0 || c >= channels) continue;
    if (to.scale[i]) sum *= double(to.scale[i][c]);
    to.of[i][c] = float(sum);
    if (to.also[i]) to.also[i][c] = float(sum);
  }
}

/// Room for the partial results of a tiling.
template <int N>
float* partial_sums(const Tiling& t) {
  return static_cast<float*>(scratch(int64_t(sizeof(float)) * t.row_blocks * N * t.channels));
}
template <int N>
void combine_sums(const Tiling& t, const float* partial, const SumTargets<N>& to) {
  launch_early(combine_sums_kernel<N>, blocks_for(N * t.channels, kSumColumns), kSumColumns * kSumGroups,
               int(t.row_blocks), t.channels, partial, to);
}

}  // namespace weft::kernels::cuda
