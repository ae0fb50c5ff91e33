// Sorts columns: tiles of them in shared memory, then two runs at a time in scratch memory, where each
// element finds its place by a binary search in the other run.
#pragma once

#include <algorithm>
#include <utility>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/placed.h"

namespace weft::kernels::cuda {

constexpr Placed kNothing = ~Placed{0};  // comes last

constexpr int kSortBlock = 256, kTileLog = 11, kTile = 1 << kTileLog;

/// The sorted runs that columns are made of. All are of one length, but the last of a column may be shorter.
struct Runs {
  int64_t count, length, last;

  constexpr int64_t of_column() const { return (count - 1) * length + last; }
  constexpr int64_t length_of(int64_t run) const { return run + 1 < count ? length : last; }
  /// After a merge of each two, which keeps the first k.
  constexpr Runs merged(int64_t k) const {
    const int64_t joined = count % 2 == 0 ? length + last : last, twice = 2 * length;
    return {(count + 1) / 2, twice < k ? twice : k, joined < k ? joined : k};
  }
};

/// Where sorted runs go to: column after column.
struct ToRuns {
  Placed* to;
  Runs runs;

  static constexpr bool across() { return false; }
  __device__ void operator()(int64_t column, int64_t run, int64_t i, Placed e) const {
    to[column * runs.of_column() + run * runs.length + i] = e;
  }
};

/// Which element of which of the block's parts a thread reads or writes: neighbours are those of one part,
/// or `across` them, where neighbours in memory are of different columns.
struct InPart {
  int part, at;

  __device__ InPart(int i, int log, bool across) {
    const int parts_log = kTileLog - log;
    part = across ? i & ((1 << parts_log) - 1) : i >> log;
    at = across ? i >> parts_log : i & ((1 << log) - 1);
  }
  __device__ int in_tile(int log) const { return part << log | at; }
};

/// Sorts each 2^log elements of the tile (Batcher's bitonic network).
__device__ inline void sort_parts(Placed* tile, int log) {
  constexpr int kOwn = 5;  // a warp's pairs up to 2^kOwn apart are those of 64 neighbours: nobody else's
  __syncthreads();
  for (int merge = 0; merge < log; ++merge)
    for (int step = merge; step >= 0; --step) {
      for (int pair = int(threadIdx.x); pair < kTile / 2; pair += kSortBlock) {
        const int low = (pair >> step << (step + 1)) | (pair & ((1 << step) - 1));
        // The first step turns the second half around.
        const int high = low ^ (step == merge ? (2 << step) - 1 : 1 << step);
        const Placed a = tile[low], b = tile[high];
        if (b < a) tile[low] = b, tile[high] = a;
      }
      step > kOwn || (step == 0 && merge >= kOwn) ? __syncthreads() : __syncwarp();
    }
  __syncthreads();
}

/// Sorts parts of 2^log elements, of which `to.count` make a column, and keeps as many of each as there are
/// in `to`. `source` gives the elements; `result` takes them.
template <class Source, class Result>
__global__ void __launch_bounds__(kSortBlock)
    tile_kernel(int64_t columns, int64_t size, int log, Runs to, const Source source, const Result result) {
  wait_for_earlier();
  alignas(16) __shared__ Placed tile[kTile];
  const int64_t first = int64_t(blockIdx.x) << (kTileLog - log);
  for (int i = int(threadIdx.x); i < kTile; i += kSortBlock) {
    const InPart mine(i, log, source.across());
    const int64_t part = first + mine.part, column = part / to.count;
    const int64_t at = ((part - column * to.count) << log) + mine.at;
    tile[mine.in_tile(log)] = column < columns && at < size ? source(column, at) : kNothing;
  }
  sort_parts(tile, log);
  for (int i = int(threadIdx.x); i < kTile; i += kSortBlock) {
    const InPart mine(i, log, result.across());
    const int64_t part = first + mine.part, column = part / to.count, run = part - column * to.count;
    if (column < columns && mine.at < to.length_of(run))
      result(column, run, mine.at, tile[mine.in_tile(log)]);
  }
}

/// How many of the sorted elements are before e.
__device__ inline int64_t count_before(Placed e, const Placed* sorted, int64_t n) {
  int64_t low = 0;
  while (low < n) {
    const int64_t middle = (low + n) / 2;
    if (sorted[middle] < e)
      low = middle + 1;
    else
      n = middle;
  }
  return low;
}

/// Merges each two runs of `from` and keeps the first k.
template <class Result>
__global__ void __launch_bounds__(kSortBlock)
    merge_kernel(int64_t n, int64_t k, Runs runs, const Placed* from, const Result result) {
  wait_for_earlier();
  const int64_t i = int64_t(blockIdx.x) * kSortBlock + threadIdx.x;
  if (i >= n) return;
  const int64_t column = i / runs.of_column(), in_column = i - column * runs.of_column();
  const int64_t run = in_column / runs.length, other = run ^ 1;
  const Placed e = from[i];
  int64_t at = in_column - run * runs.length;
  if (other < runs.count)
    at += count_before(e, from + column * runs.of_column() + other * runs.length, runs.length_of(other));
  if (at < k) result(column, run / 2, at, e);
}

/// How columns of some size are sorted.
struct Sort {
  int64_t size, k;  // of which the first k are wanted, 1 <= k <= size
  int log = 0;      // of the elements in a part
  Runs runs;        // that tile_kernel makes
  int merges = 0;

  Sort(int64_t size, int64_t k) : size(size), k(k) {
    while (log < kTileLog && int64_t{1} << log < size) ++log;
    const int64_t part = int64_t{1} << log, parts = (size + part - 1) / part;
    runs = {parts, std::min(part, k), std::min(size - (parts - 1) * part, k)};
    while (int64_t{1} << merges < parts) ++merges;
  }
  /// Columns at once: so many that they fill the device, and that the cache holds what is merged.
  int64_t batch() const { return std::max<int64_t>(1, (int64_t{1} << 20) / runs.of_column()); }

  /// result(column, 0, j, e) for the first k elements e of each column. Two rooms for `columns` times
  /// runs.of_column() elements take turns where there are merges; the result may be in rooms[merges % 2].
  template <class Source, class Result>
  void operator()(int64_t columns, const Source& source, const Result& result,
                  Placed* const (&rooms)[2]) const {
    const unsigned blocks = blocks_for(columns * runs.count, kTile >> log);
    if (merges == 0)
      return launch_early(tile_kernel<Source, Result>, blocks, kSortBlock, columns, size, log, runs, source,
                          result);
    launch_early(tile_kernel<Source, ToRuns>, blocks, kSortBlock, columns, size, log, runs, source,
                 ToRuns{rooms[0], runs});
    Runs now = runs;
    for (int m = 1; m <= merges; ++m) {
      const Runs next = now.merged(k);
      const Placed* const from = rooms[(m - 1) % 2];
      const int64_t n = columns * now.of_column();
      if (m < merges)
        launch_early(merge_kernel<ToRuns>, blocks_for(n, kSortBlock), kSortBlock, n, k, now, from,
                     ToRuns{rooms[m % 2], next});
      else
        launch_early(merge_kernel<Result>, blocks_for(n, kSortBlock), kSortBlock, n, k, now, from, result);
      now = next;
    }
  }
};

}  // namespace weft::kernels::cuda
