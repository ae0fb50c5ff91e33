// A team of threads that makes a row: a warp, or a whole block where rows are long.
#pragma once

#include <utility>

#include "weft/kernels/cuda/reduction.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int64_t kLongRow = 4096;

/// The threads that make a row: one of the block's warps, or all of them.
template <bool kBlock>
struct Team {
  static constexpr int size = kBlock ? kThreads : kWarp;
  static constexpr int per_block = kBlock ? 1 : kWarps;

  static __device__ int thread() { return kBlock ? int(threadIdx.x) : int(threadIdx.x) % kWarp; }
  static __device__ int64_t first_row() {
    return int64_t(blockIdx.x) * per_block + (kBlock ? 0 : threadIdx.x / kWarp);
  }
  static __device__ int64_t rows_apart() { return int64_t(gridDim.x) * per_block; }

  /// The sum or maximum over the team, in all its threads.
  static __device__ float sum(float v) {
    v = warp_sum(v);
    if constexpr (kBlock) {
      float all = 0;
      over_warps(v, [&](float other) { all += other; });
      return all;
    }
    return v;
  }
  static __device__ float max(float v) {
    v = warp_max(v);
    if constexpr (kBlock) over_warps(v, [&](float other) { v = other > v ? other : v; });
    return v;
  }

 private:
  template <class F>
  static __device__ void over_warps(float v, F&& f) {
    __shared__ float room[kWarps];
    __syncthreads();  // all have read what was here before
    if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = v;
    __syncthreads();
    for (int warp = 0; warp < kWarps; ++warp) f(room[warp]);
  }
};

/// Calls f(column) for the team's columns of a row, each the first of V.
template <class TeamT, int V, class F>
__device__ inline void for_columns(int64_t cols, F&& f) {
  for (int64_t c = int64_t(TeamT::thread()) * V; c < cols; c += TeamT::size * V) f(c);
}

template <int V, bool kBlock>
struct Choice {};

/// Calls f(blocks, Choice) for rows of `size` elements in runs of `width`: wide loads where the runs and the
/// pointers allow, a block for each long row; at most `most` blocks for each multiprocessor.
template <class T, class F>
void choose(int64_t rows, int64_t size, int64_t width, int most, std::initializer_list<const void*> pointers,
            F&& f) {
  const unsigned blocks = blocks_for(rows, size < kLongRow ? kWarps : 1, most * int64_t(multiprocessors()));
  if (width % kWide<T> != 0 || !aligned(pointers))
    size < kLongRow ? f(blocks, Choice<1, false>{}) : f(blocks, Choice<1, true>{});
  else
    size < kLongRow ? f(blocks, Choice<kWide<T>, false>{}) : f(blocks, Choice<kWide<T>, true>{});
}
template <class T, class F>
void choose(int64_t rows, int64_t cols, std::initializer_list<const void*> pointers, F&& f) {
  choose<T>(rows, cols, cols, 4, pointers, std::forward<F>(f));
}

}  // namespace weft::kernels::cuda
