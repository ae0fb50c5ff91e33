// How kernels walk [rows, channels] where something belongs to each channel: each thread owns the same few
// neighbouring channels in all its rows, so that this stays in registers.
#pragma once

#include <algorithm>
#include <type_traits>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {

/// How [rows, channels] is spread: a block has `lanes` threads side by side, with one group of neighbouring
/// channels each, and `lane_rows` such rows of threads. blockIdx.x counts the slices of lanes * width
/// channels, blockIdx.y the blocks that share the rows of a slice.
struct Tiling {
  int64_t rows, channels, groups;
  int lanes, lane_rows;
  unsigned slices, row_blocks;

  dim3 grid() const { return dim3(slices, row_blocks); }
  dim3 block() const { return dim3(unsigned(lanes * lane_rows)); }
};

// Threads of a block, and blocks that a multiprocessor shall hold at once.
constexpr int kReduceThreads = 512, kReduceBlocks = 1;  // leaves 128 registers a thread
constexpr int kApplyThreads = 256, kApplyBlocks = 3;    // 80
constexpr int kMaxSlices = 1024;                        // that share their rows among blocks

/// About as many blocks as run at once, where each thread gets `min_rows` rows or more, and a row of threads
/// has `lanes`.
inline Tiling tiling(int64_t rows, int64_t channels, int width, int64_t lanes, int threads, int blocks,
                     int min_rows) {
  Tiling t{};
  t.rows = rows;
  t.channels = channels;
  t.groups = channels / width;
  const int64_t slices = (t.groups + lanes - 1) / lanes;
  t.slices = unsigned(slices);
  t.lanes = int(lanes);
  t.lane_rows = threads / t.lanes;
  const int64_t limit = slices > kMaxSlices ? 1 : int64_t(multiprocessors()) * blocks / slices;
  t.row_blocks = blocks_for(rows, int64_t(t.lane_rows) * min_rows, std::max<int64_t>(1, limit));
  return t;
}

/// A thread's place in the tiling.
template <int V>
struct Place {
  int lane, lane_row;
  int64_t group, channel;     // held in range where the slice hangs over the last channel
  int64_t count;              // rows
  int64_t first, last, step;  // offsets of the first and the last row, from row to row

  __device__ explicit Place(const Tiling& t) {
    lane = int(threadIdx.x) % t.lanes;
    lane_row = int(threadIdx.x) / t.lanes;
    group = int64_t(blockIdx.x) * t.lanes + lane;
    const bool active = group < t.groups;
    channel = (active ? group : t.groups - 1) * V;
    const int64_t row = int64_t(blockIdx.y) * t.lane_rows + lane_row;
    const int64_t rows_apart = int64_t(gridDim.y) * t.lane_rows;
    count = active && row < t.rows ? (t.rows - row - 1) / rows_apart + 1 : 0;
    step = rows_apart * t.channels;
    first = row * t.channels + channel;
    last = first + (count - 1) * step;
  }
};

template <int N>
using Rows = std::integral_constant<int, N>;

/// f(offset, Rows<U>, n) for the n = U rows from there on, `step` apart, again and again, then for the n < U
/// that are left. n is a constant but for those.
template <int U, class F>
__device__ inline void for_rows(int64_t count, int64_t offset, int64_t step, F&& f) {
  for (; count >= U; count -= U, offset += U * step) f(offset, Rows<U>{}, Rows<U>{});
  if (U > 1 && count > 0) f(offset, Rows<U>{}, int(count));
}

/// The same one by one, with the U - 1 rows behind each on their way: load(u, offset) puts a row into place
/// u, and use(u, offset) takes it from there.
template <int U, class Load, class Use>
__device__ inline void for_rows_ahead(int64_t count, int64_t offset, int64_t step, Load&& load, Use&& use) {
  const int rows = int(count);
  int64_t ahead = offset;
#pragma unroll
  for (int u = 0; u < U; ++u, ahead += step)
    if (u < rows) load(u, ahead);
  for (int row = 0; row < rows; row += U) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (row + u >= rows) break;
      use(u, offset);
      if (row + u + U < rows) load(u, ahead);
      offset += step;
      ahead += step;
    }
  }
}

// 128 bytes side by side, as a rule, which are a whole line: the partial results of a slice are read by one
// block alone, while the others have nothing left to do, so a slice must not be wide. Few rows are read by
// one block alone, 32 bytes side by side, in less time than several take to come together: up to 1024 rows,
// or `light` where there is little to compute and at least half of the multiprocessors get a block. Lanes are
// a power of two, so that those of the same channels meet in a warp. `packs`: how many groups of `width` are
// 16 bytes.
inline Tiling reduce_tiling(int64_t rows, int64_t channels, int width, int packs = 1, int64_t light = 0) {
  const int64_t narrow = width == 1 ? 8 : 2 * packs, groups = channels / width;
  const bool few = rows <= 1024 || (rows <= light && groups / narrow >= multiprocessors() / 2);
  const int64_t most = few ? narrow : width == 1 ? kWarp : 8 * packs;
  int64_t lanes = 1;
  while (lanes < most && lanes < groups) lanes *= 2;
  Tiling t = tiling(rows, channels, width, lanes, kReduceThreads, kReduceBlocks, 4);
  if (few) t.row_blocks = 1;
  return t;
}
// At most 512 bytes side by side.
inline Tiling apply_tiling(int64_t rows, int64_t channels, int width, int packs = 1,
                           int blocks = kApplyBlocks) {
  const int64_t most = width == 1 ? 128 : 32 * packs, groups = channels / width,
                slices = (groups + most - 1) / most;
  return tiling(rows, channels, width, (groups + slices - 1) / slices, kApplyThreads, blocks, 1);
}

}  // namespace weft::kernels::cuda
