// Mean and variance of the columns of a matrix whose rows a kernel makes by tiles: what a thread keeps
// meanwhile, and how the blocks' results come together.
#pragma once

#include "weft/kernels/cuda/moments.h"

namespace weft::kernels::cuda {

constexpr int kColumnThreads = 256;

/// How tiles of `height` rows are dealt out: block b has tiles b, b + blocks, ...
struct TileShare {
  int height = 1, whole = 0, rest = 0;
  int last = 0, missing = 0;  // the block of the last tile, which lacks so many rows

  TileShare() = default;
  TileShare(int rows, int height, int blocks) : height(height) {
    const int tiles = (rows + height - 1) / height;
    whole = tiles / blocks, rest = tiles % blocks, last = (tiles - 1) % blocks;
    missing = tiles * height - rows;
  }
  __device__ int rows_of(int block) const {
    return (whole + (block < rest)) * height - (block == last ? missing : 0);
  }
};

/// Where the statistics of [rows, n] go: [n] each. partial: [row blocks, n], mean and squared deviations.
struct ColumnStats {
  int rows = 0, n = 0;
  TileShare share{};
  double per_row = 0;  // 1 / rows
  Pack<float, 2>* partial = nullptr;
  float *mean = nullptr, *var = nullptr;
};

/// What the warps that have the same columns know, and what is made of all blocks' results.
template <int kColumns, int kRowWarps>
struct ColumnRoom {
  float sum[kRowWarps][kColumns], squares[kRowWarps][kColumns];
  double groups[2][kColumnThreads * 2];
};

/// The statistics of the block's columns from those of all blocks, by the last one.
template <int kColumns, int kRowWarps>
__device__ void combine_columns(const ColumnStats& s, ColumnRoom<kColumns, kRowWarps>& room) {
  constexpr int kPairs = kColumns / 2, kGroups = kColumnThreads / kPairs;
  const int thread = int(threadIdx.x), pair = thread % kPairs, first = int(blockIdx.x) * kColumns;
  const float* const from = reinterpret_cast<const float*>(s.partial + first + pair * 2);
  const double center[2] = {center_of(from[0]), center_of(from[2])};
  double sums[2][2] = {};
#pragma unroll 8
  for (int block = thread / kPairs; block < int(gridDim.y); block += kGroups) {
    const Pack<float, 4> p = load<4>(from + int64_t(block) * 2 * s.n);
    const double n = double(s.share.rows_of(block));
    Moments::add(sums[0], center[0], n, p.v[0], p.v[1]);
    Moments::add(sums[1], center[1], n, p.v[2], p.v[3]);
  }
#pragma unroll
  for (int e = 0; e < 2; ++e)
#pragma unroll
    for (int k = 0; k < 2; ++k) room.groups[k][thread * 2 + e] = sums[e][k];
  __syncthreads();
  if (thread >= kColumns) return;
  double all[2] = {};
  for (int g = 0; g < kGroups; ++g)
    for (int k = 0; k < 2; ++k) all[k] += room.groups[k][g * kColumns + thread];
  Moments::finish(all, center_of(s.partial[first + thread].v[0]), s.per_row);
  s.mean[first + thread] = float(all[0]);
  s.var[first + thread] = float(all[1] * s.per_row);
}

/// A product's 32 rows and 32 columns as multiply_add() leaves them in a warp, whose matrices have
/// column_of() for columns: a lane has rows lane / 4 + 16 i + 8 h and 8 columns from 8 (lane % 4) on, column
/// 2 m + e of them in [i][m][2 h + e].
using Quarter = float[2][4][4];

/// Puts the lane's values of the first row to where shift is read from: no matter how far means are from 0,
/// little is lost. For the lanes of that row.
__device__ inline void put_shift(const Quarter& acc, float* shift) {
#pragma unroll
  for (int c = 0; c < 8; ++c) shift[c] = finite_or_0(acc[0][c / 2][c % 2]);
}
/// Adds up d = v - shift and its square over the rows for which is_row(i, h).
template <class IsRow>
__device__ inline void add_rows(const Quarter& acc, const float* shifts, IsRow&& is_row, float (&sum)[8],
                                float (&squares)[8]) {
  float shift[8];
  load_floats(shifts, shift);
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!is_row(i, h)) continue;
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const float d = acc[i][c / 2][2 * h + c % 2] - shift[c];
        sum[c] += d;
        squares[c] = fmaf(d, d, squares[c]);
      }
    }
}

/// The lane's values of a row, rounded.
template <class T>
__device__ inline Held<T, 8> row_of(const Quarter& acc, int i, int h) {
  Held<T, 8> out;
#pragma unroll
  for (int m = 0; m < 4; ++m) out.set(m, {acc[i][m][2 * h], acc[i][m][2 * h + 1]});
  return out;
}

/// From what the block's threads have by add_rows(), sum[i] for the 8 columns from column(i) on of the
/// block's. Warps of the same columns are counted by row_warp. room may hold anything, shift may not lie
/// there. blockIdx.x counts slices of columns, blockIdx.y the blocks that share the rows.
template <int kColumns, int kRowWarps, int N, class Column>
__device__ void tell_columns(const ColumnStats& s, ColumnRoom<kColumns, kRowWarps>& room, const float* shift,
                             unsigned* arrivals, int row_warp, const float (&sum)[N][8],
                             const float (&squares)[N][8], Column&& column) {
  const int thread = int(threadIdx.x);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i)
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      float a = sum[i][c], b = squares[i][c];
#pragma unroll
      for (int distance = 4; distance < kWarp; distance *= 2) {
        a += __shfl_xor_sync(kAllLanes, a, distance);
        b += __shfl_xor_sync(kAllLanes, b, distance);
      }
      if (thread % kWarp < 4)
        room.sum[row_warp][column(i) + c] = a, room.squares[row_warp][column(i) + c] = b;
    }
  __syncthreads();
  if (thread < kColumns) {
    float a = 0, b = 0;
    for (int w = 0; w < kRowWarps; ++w) a += room.sum[w][thread], b += room.squares[w][thread];
    const float mean = a / float(s.share.rows_of(int(blockIdx.y))), rest = b - a * mean;
    s.partial[int64_t(blockIdx.y) * s.n + int(blockIdx.x) * kColumns + thread] = {shift[thread] + mean,
                                                                                  rest < 0 ? 0 : rest};
  }
  if (last_to_arrive(&arrivals[blockIdx.x], gridDim.y)) combine_columns(s, room);
}

/// Grid, and room for the partial results, of a kernel with `blocks` of its blocks on a multiprocessor.
inline dim3 column_grid(int64_t rows, int64_t n, int columns, int height, int blocks) {
  const int64_t slices = n / columns;
  return dim3(unsigned(slices),
              blocks_for(rows, height, std::max<int64_t>(1, int64_t(multiprocessors()) * blocks / slices)));
}
inline ColumnStats column_stats(int64_t rows, int64_t n, int height, dim3 grid, float* mean, float* var) {
  return {int(rows),
          int(n),
          TileShare(int(rows), height, int(grid.y)),
          1 / double(rows),
          static_cast<Pack<float, 2>*>(scratch(int64_t(sizeof(Pack<float, 2>)) * grid.y * n)),
          mean,
          var};
}

}  // namespace weft::kernels::cuda
