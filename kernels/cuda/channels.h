// How kernels walk [rows, channels] where something belongs to each channel: each thread owns the same few
// neighbouring channels in all its rows, so that this stays in registers.
#pragma once

#include <algorithm>
#include <type_traits>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/strided.h"
#include "weft/kernels/cuda/wide.h"
#include "weft/kernels/error.h"

namespace weft::kernels::cuda {

/// How [rows, channels] is spread: a block has `lanes` threads side by side, with one group of neighbouring
/// channels each, and `lane_rows` such rows of threads. blockIdx.x counts the slices of lanes * width
/// channels, blockIdx.y the blocks that share the rows of a slice.
struct Tiling {
  int64_t rows = 0;
  int channels = 0, groups = 0, lanes = 0, lane_rows = 0;
  unsigned slices = 0, row_blocks = 0;
  // What follows, so that no thread has to divide: a thread's rows, of which the first `rest` rows of threads
  // have one more; from one of its rows to the next.
  int whole = 0, rest = 0;
  int64_t step = 0;
  double per_row = 0;  // 1 / rows
  Divisor by_lanes;

  Tiling() = default;
  Tiling(int64_t rows, int64_t channels, int width, int64_t lanes, int threads)
      : rows(rows),
        channels(int(channels)),
        groups(int(channels / width)),
        lanes(int(lanes)),
        lane_rows(threads / int(lanes)),
        slices(unsigned((channels / width + lanes - 1) / lanes)),
        per_row(1 / double(rows)),
        by_lanes(uint32_t(lanes)) {
    if (channels >> 30) throw Error("no more than 2^30 channels are possible on a GPU");
  }
  void share_rows(unsigned blocks) {
    const int64_t apart = int64_t(blocks) * lane_rows;
    row_blocks = blocks;
    whole = int(rows / apart);
    rest = int(rows % apart);
    step = apart * channels;
  }

  dim3 grid() const { return dim3(slices, row_blocks); }
  dim3 block() const { return dim3(unsigned(lanes * lane_rows)); }
  __device__ int over_lanes(int n) const { return int(by_lanes.divide(uint32_t(n))); }
};

// Threads of a block, and blocks that a multiprocessor shall hold at once.
constexpr int kReduceThreads = 512, kReduceBlocks = 1;  // leaves 128 registers a thread
constexpr int kApplyThreads = 256, kApplyBlocks = 3;    // 80
constexpr int kMaxSlices = 1024;                        // that share their rows among blocks
constexpr int kMaxColumns = 64;                         // channels of a block that adds up

/// About as many blocks as run at once, where each thread gets `min_rows` rows or more, and a row of threads
/// has `lanes`.
inline Tiling tiling(int64_t rows, int64_t channels, int width, int64_t lanes, int threads, int blocks,
                     int min_rows) {
  Tiling t(rows, channels, width, lanes, threads);
  const int64_t limit = t.slices > kMaxSlices ? 1 : int64_t(multiprocessors()) * blocks / t.slices;
  t.share_rows(blocks_for(rows, int64_t(t.lane_rows) * min_rows, std::max<int64_t>(1, limit)));
  return t;
}

/// A thread's place in the tiling. Only parameters are read: it can be found before wait_for_earlier().
template <int V>
struct Place {
  int lane, lane_row;
  int channel;                // held in range where the slice hangs over the last one
  int count;                  // rows
  int64_t first, last, step;  // offsets of the first and the last row, from row to row

  __device__ explicit Place(const Tiling& t) {
    lane_row = t.over_lanes(int(threadIdx.x));
    lane = int(threadIdx.x) - lane_row * t.lanes;
    const int group = int(blockIdx.x) * t.lanes + lane, row = int(blockIdx.y) * t.lane_rows + lane_row;
    const bool active = group < t.groups;
    channel = (active ? group : t.groups - 1) * V;
    count = active ? t.whole + (row < t.rest) : 0;
    step = t.step;
    first = int64_t(row) * t.channels + channel;
    last = first + (count - 1) * step;
  }
};

template <int N>
using Rows = std::integral_constant<int, N>;

/// f(offset, Rows<U>, n) for the n = U rows from there on, `step` apart, again and again, then for the n < U
/// that are left. n is a constant but for those.
template <int U, class F>
__device__ inline void for_rows(int count, int64_t offset, int64_t step, F&& f) {
  for (; count >= U; count -= U, offset += U * step) f(offset, Rows<U>{}, Rows<U>{});
  if (U > 1 && count > 0) f(offset, Rows<U>{}, count);
}

/// The same one by one, with the U - 1 rows behind each on their way: load(u, offset) puts a row into place
/// u, and use(u, offset) takes it from there.
template <int U, class Load, class Use>
__device__ inline void for_rows_ahead(int count, int64_t offset, int64_t step, Load&& load, Use&& use) {
  int64_t ahead = offset;
#pragma unroll
  for (int u = 0; u < U; ++u, ahead += step)
    if (u < count) load(u, ahead);
  int row = 0;
  for (; row + U <= count; row += U) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      use(u, offset);
      if (row + u + U < count) load(u, ahead);
      offset += step;
      ahead += step;
    }
  }
#pragma unroll
  for (int u = 0; u < U - 1; ++u, offset += step)
    if (row + u < count) use(u, offset);
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
  if (few) t.share_rows(1);
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
