// A product whose time is that of its memory: few channels, very many rows. Blocks stay and take one tile of
// 128 rows after the other, with copies of the next under way; warps multiply 32 rows by half of the tile's
// columns. Columns remain a thread's own all the time, so that their statistics cost two registers each, and
// nothing is read again.
#include "weft/kernels/cuda/conv_product.h"

#include "weft/kernels/cuda/moments.h"
#include "weft/kernels/cuda/tensor_core.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256, kBlocks = 2;   // leaves 128 registers a thread
constexpr int kTileRows = 128, kDepth = 64;  // of x, for each step
constexpr int kRowBytes = kDepth * 2, kStages = 3;

enum class Extra { stats, add };

template <class T>
struct ProductArgs {
  int rows, n, k;
  const T *x, *w;
  T* y;
  // Of the statistics. partial: [row blocks, n], mean and squared deviations.
  Pack<float, 2>* partial;
  float *mean, *var;
};

/// Shared memory of a block.
template <int kColumns>
struct Room {
  struct Stage {
    unsigned char x[kTileRows * kRowBytes];
    unsigned char w[kColumns * kRowBytes];
  };
  Stage stages[kStages];
  float shift[kColumns];
};
/// What the stages' room is for in the end.
template <int kColumns>
struct SumsRoom {
  float sum[4][kColumns], squares[4][kColumns];
  double groups[2][kThreads * 2];
};

__device__ unsigned arrivals[kMaxSlices];  // one stream, so that no two kernels use it at once

/// Rows of 128 bytes and more: those of eight neighbours that a matrix is read from lie in different banks.
__device__ inline int place(int row, int row_bytes, int piece) {
  return row * row_bytes + ((piece ^ (row & 7)) * 16);
}

/// Adds up each of the 8 over a warp's lanes of the same lane % 4; the sum of number lane / 4 is the lane's.
__device__ inline float sum_of_rows(float (&v)[8]) {
  const int lane = int(threadIdx.x);
#pragma unroll
  for (int n = 4; n > 0; n /= 2) {
    const bool upper = lane & (n * 4);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float sent = upper ? v[i] : v[i + n];
      v[i] = (upper ? v[i + n] : v[i]) + __shfl_xor_sync(kAllLanes, sent, n * 4);
    }
  }
  return v[0];
}

/// How many of the rows are a block's.
__device__ inline int rows_of(int rows, int tiles, int block, int blocks) {
  const int own = (tiles - 1 - block) / blocks + 1;
  return own * kTileRows - ((tiles - 1) % blocks == block ? tiles * kTileRows - rows : 0);
}

/// The statistics of the block's columns from those of all blocks, by the last one.
template <int kColumns, class T>
__device__ void combine(const ProductArgs<T>& a, SumsRoom<kColumns>& room, int tiles) {
  const int thread = int(threadIdx.x), pair = thread % (kColumns / 2), group = thread / (kColumns / 2);
  constexpr int kGroups = kThreads / (kColumns / 2);
  const int first = int(blockIdx.x) * kColumns, c = first + pair * 2, blocks = int(gridDim.y);
  const auto read = [&](int block) {
    return load<4>(reinterpret_cast<const float*>(a.partial + int64_t(block) * a.n + c));
  };
  const Pack<float, 4> center_at = read(0);
  const double center[2] = {center_of(center_at.v[0]), center_of(center_at.v[2])};
  double sums[2][2] = {};
#pragma unroll 8
  for (int block = group; block < blocks; block += kGroups) {
    const Pack<float, 4> p = read(block);
    const double n = double(rows_of(a.rows, tiles, block, blocks));
    Moments::add(sums[0], center[0], n, p.v[0], p.v[1]);
    Moments::add(sums[1], center[1], n, p.v[2], p.v[3]);
  }
#pragma unroll
  for (int e = 0; e < 2; ++e)
#pragma unroll
    for (int s = 0; s < 2; ++s) room.groups[s][thread * 2 + e] = sums[e][s];
  __syncthreads();
  if (thread >= kColumns) return;
  double all[2] = {};
  for (int g = 0; g < kGroups; ++g)
    for (int s = 0; s < 2; ++s) all[s] += room.groups[s][g * kColumns + thread];
  Moments::finish(all, center_of(load<2>(reinterpret_cast<const float*>(a.partial + first + thread)).v[0]),
                  double(a.rows));
  a.mean[first + thread] = float(all[0]);
  a.var[first + thread] = float(all[1] / double(a.rows));
}

template <class T, int kColumns, Extra extra>
__global__ void __launch_bounds__(kThreads, kBlocks) product_kernel(ProductArgs<T> a) {
#ifdef __CUDA_ARCH__
  extern __shared__ unsigned char memory[];
  // The swizzle wants lines of 128 bytes.
  Room<kColumns>& room = *reinterpret_cast<Room<kColumns>*>(memory);
#else
  alignas(128) __shared__ Room<kColumns> room;
#endif
  constexpr bool by_columns = extra == Extra::add;  // w is [k, n]
  constexpr int kTiles = kColumns / 2 / 8, kQuads = kTiles / 4;
  constexpr int kWideRow = kColumns * 2;  // bytes of a row of w by columns
  const int thread = int(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int warp_row = warp % 4 * 32, warp_column = warp / 4 * (kColumns / 2);
  const int row_in = lane / 4, quarter = lane % 4;
  const int first_column = int(blockIdx.x) * kColumns, chunks = a.k / kDepth;
  const int tiles = (a.rows + kTileRows - 1) / kTileRows, blocks = int(gridDim.y);
  // Where a lane reads from the first of the matrices in a stage: from then on bits 4 to 6, the piece, change
  // by exclusive or.
  const int x_at = place(warp_row + lane % 16, kRowBytes, lane / 16);
  const int w_at = by_columns ? place(lane % 16, kWideRow, warp_column / 8 + lane / 16)
                              : place(warp_column + lane / 16 * 8 + lane % 8, kRowBytes, lane / 8 % 2);
  wait_for_earlier();

  // What is copied next.
  int copied_tile = int(blockIdx.y);
  int copied_chunk = 0, copied_stage = 0;
  const auto copy_next = [&] {
    if (copied_tile < tiles) {
      auto& stage = room.stages[copied_stage];
#pragma unroll
      for (int i = 0; i < kTileRows * 8 / kThreads; ++i) {
        const int at = thread + i * kThreads, row = at / 8, piece = at % 8;
        const int r = copied_tile * kTileRows + row;
        const bool beyond = r >= a.rows;
        copy_beside(stage.x + place(row, kRowBytes, piece),
                    a.x + (beyond ? 0 : int64_t(r) * a.k + copied_chunk * kDepth + piece * 8), beyond);
      }
      if (chunks > 1 || copied_tile < int(blockIdx.y) + kStages * blocks) {  // else it is there
        constexpr int kPieces = by_columns ? kColumns / 8 : 8, kRows = by_columns ? kDepth : kColumns;
#pragma unroll
        for (int i = 0; i < kRows * kPieces / kThreads; ++i) {
          const int at = thread + i * kThreads, row = at / kPieces, piece = at % kPieces;
          const T* from = by_columns
                              ? a.w + int64_t(copied_chunk * kDepth + row) * a.n + first_column + piece * 8
                              : a.w + int64_t(first_column + row) * a.k + copied_chunk * kDepth + piece * 8;
          copy_beside(stage.w + place(row, by_columns ? kWideRow : kRowBytes, piece), from, false);
        }
      }
      if (++copied_chunk == chunks) copied_chunk = 0, copied_tile += blocks;
      if (++copied_stage == kStages) copied_stage = 0;
    }
    commit_copies();
  };
  for (int i = 0; i < kStages - 1; ++i) copy_next();

  float sums[kTiles / 2] = {};
  int stage_at = 0;
  for (int tile = int(blockIdx.y); tile < tiles; tile += blocks) {
    const int row = tile * kTileRows + warp_row + row_in;
    // After transpose_quad() a lane has 8 columns of one row.
    const auto target = [&](int i, int h, int q) {
      return a.y + int64_t(row + i * 16 + h * 8) * a.n + first_column + warp_column + q * 32 + quarter * 8;
    };
    float acc[2][kTiles][4] = {};
    Pack<uint32_t, 4> before[2][2][kQuads];
    if constexpr (extra == Extra::add) {
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int q = 0; q < kQuads; ++q)
            if (row + i * 16 + h * 8 < a.rows)
              before[i][h][q] = load<4>(reinterpret_cast<const uint32_t*>(target(i, h, q)));
    }
    for (int chunk = 0; chunk < chunks; ++chunk) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // all copies are there, and nobody reads the stage that comes next
      copy_next();
      const auto& stage = room.stages[stage_at];
      if (++stage_at == kStages) stage_at = 0;
#pragma unroll
      for (int k = 0; k < kDepth / 16; ++k) {
        uint32_t x[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i)
          load_matrices<false>(stage.x + (x_at ^ k * 32) + i * 16 * kRowBytes, x[i]);
#pragma unroll
        for (int j = 0; j < kTiles; j += 2) {
          uint32_t w[4];
          if constexpr (by_columns)
            load_matrices<true>(stage.w + (w_at ^ j * 16) + k * 16 * kWideRow, w);
          else
            load_matrices<false>(stage.w + (w_at ^ k * 32) + j * 8 * kRowBytes, w);
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const uint32_t half[2] = {w[2 * e], w[2 * e + 1]};
#pragma unroll
            for (int i = 0; i < 2; ++i) multiply_add<T>(x[i], half, acc[i][j + e]);
          }
        }
      }
    }
    if constexpr (extra == Extra::stats) {
      if (tile == int(blockIdx.y)) {
        // Of the block's first row: no matter how far the mean is from 0, little is lost.
        if (warp % 4 == 0 && row_in == 0) {
#pragma unroll
          for (int j = 0; j < kTiles; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const float v = acc[0][j][e];
              room.shift[warp_column + j * 8 + quarter * 2 + e] = v - v == 0 ? v : 0;
            }
        }
        __syncthreads();
      }
#pragma unroll
      for (int g = 0; g < kTiles / 2; ++g) {
        float parts[8] = {};  // [tile, column, sum or squares]
#pragma unroll
        for (int t = 0; t < 2; ++t) {
          const int j = 2 * g + t;
          const Pack<float, 2> shift = load<2>(&room.shift[warp_column + j * 8 + quarter * 2]);
#pragma unroll
          for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int h = 0; h < 2; ++h)
#pragma unroll
              for (int e = 0; e < 2; ++e) {
                const float d = row + i * 16 + h * 8 < a.rows ? acc[i][j][2 * h + e] - shift.v[e] : 0;
                parts[t * 4 + e * 2] += d;
                parts[t * 4 + e * 2 + 1] = fmaf(d, d, parts[t * 4 + e * 2 + 1]);
              }
        }
        sums[g] += sum_of_rows(parts);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int q = 0; q < kQuads; ++q) {
          uint32_t added[4];
          if constexpr (extra == Extra::add) {
#pragma unroll
            for (int s = 0; s < 4; ++s) added[s] = before[i][h][q].v[s];
            transpose_quad(added);
          }
          Pack<uint32_t, 4> out;
          uint32_t pairs[4];
#pragma unroll
          for (int s = 0; s < 4; ++s) {
            float two[2] = {acc[i][q * 4 + s][2 * h], acc[i][q * 4 + s][2 * h + 1]};
            Held<T, 2> held;
            if constexpr (extra == Extra::add) {
              held.pairs[0] = added[s];
              float old[2];
              held.get(0, old);
              two[0] += old[0];
              two[1] += old[1];
            }
            held.set(0, two);
            pairs[s] = held.pairs[0];
          }
          transpose_quad(pairs);
#pragma unroll
          for (int s = 0; s < 4; ++s) out.v[s] = pairs[s];
          if (row + i * 16 + h * 8 < a.rows) store<4>(reinterpret_cast<uint32_t*>(target(i, h, q)), out);
        }
  }
  if constexpr (extra == Extra::stats) {
    wait_for_copies<0>();
    __syncthreads();
    auto& all = *reinterpret_cast<SumsRoom<kColumns>*>(&room.stages);
    static_assert(sizeof all <= sizeof room.stages);
#pragma unroll
    for (int g = 0; g < kTiles / 2; ++g) {
      const int column = warp_column + (2 * g + row_in / 4) * 8 + quarter * 2 + row_in / 2 % 2;
      (row_in % 2 ? all.squares : all.sum)[warp % 4][column] = sums[g];
    }
    __syncthreads();
    if (thread < kColumns) {
      float s = 0, q = 0;
      for (int w = 0; w < 4; ++w) s += all.sum[w][thread], q += all.squares[w][thread];
      const float mean = s / float(rows_of(a.rows, tiles, int(blockIdx.y), blocks)), rest = q - s * mean;
      a.partial[int64_t(blockIdx.y) * a.n + first_column + thread] = {room.shift[thread] + mean,
                                                                      rest < 0 ? 0 : rest};
    }
    if (last_to_arrive(&arrivals[blockIdx.x], gridDim.y)) combine<kColumns>(a, all, tiles);
  }
}

template <class T, int kColumns, Extra extra>
void start(ProductArgs<T> a) {
  const int64_t slices = a.n / kColumns;
  const dim3 grid(
      unsigned(slices),
      blocks_for(a.rows, kTileRows, std::max<int64_t>(1, int64_t(multiprocessors()) * kBlocks / slices)));
  if (extra == Extra::stats)
    a.partial = static_cast<Pack<float, 2>*>(scratch(int64_t(sizeof *a.partial) * grid.y * a.n));
  launch_early_with(sizeof(Room<kColumns>), product_kernel<T, kColumns, extra>, grid, dim3(kThreads), a);
}

template <Extra extra, class T>
void choose(const ProductArgs<T>& a) {
  // Of 128 columns what is added would not fit into registers.
  if constexpr (extra == Extra::stats)
    if (a.n % 128 == 0) return start<T, 128, extra>(a);
  start<T, 64, extra>(a);
}

}  // namespace

template <class T>
bool has_conv_product(int64_t rows, int64_t n, int64_t k) {
  return sizeof(T) == 2 && rows > 0 && rows <= (int64_t{1} << 30) && n > 0 && k > 0 && n % 64 == 0 &&
         k % kDepth == 0 && n <= 64 * kMaxSlices;
}

template <class T>
void conv_product_stats(int64_t rows, int64_t n, int64_t k, const T* x, const T* w, T* y, float* mean,
                        float* var) {
  choose<Extra::stats>(ProductArgs<T>{int(rows), int(n), int(k), x, w, y, nullptr, mean, var});
}

template <class T>
void conv_product_add(int64_t rows, int64_t n, int64_t k, const T* x, const T* w, T* y) {
  choose<Extra::add>(ProductArgs<T>{int(rows), int(n), int(k), x, w, y, nullptr, nullptr, nullptr});
}

#define WEFT_INSTANTIATE(T)                                                                            \
  template void conv_product_stats(int64_t, int64_t, int64_t, const T*, const T*, T*, float*, float*); \
  template void conv_product_add(int64_t, int64_t, int64_t, const T*, const T*, T*);                   \
  template bool has_conv_product<T>(int64_t, int64_t, int64_t);
WEFT_INSTANTIATE(bf16)
WEFT_INSTANTIATE(f16)
#undef WEFT_INSTANTIATE
template bool has_conv_product<float>(int64_t, int64_t, int64_t);

}  // namespace weft::kernels::cuda
