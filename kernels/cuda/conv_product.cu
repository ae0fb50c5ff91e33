// A product whose time is that of its memory: few channels, very many rows. A block keeps its columns of w in
// shared memory and takes one tile of 128 rows after the other, with copies of the next under way. Its warps
// multiply 32 rows by 32 columns at a time; a thread's columns are always the same, so that their statistics
// stay in its registers.
#include "weft/kernels/cuda/conv_product.h"

#include "weft/kernels/cuda/column_stats.h"
#include "weft/kernels/cuda/tensor_core.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = kColumnThreads, kBlocks = 2;  // leaves 128 registers a thread
constexpr int kTileRows = 128, kChunk = 64;     // of x: of a chunk's columns a row is a line of 128 bytes
constexpr int kLine = kChunk * 2, kStages = 4;  // chunks of x under way or in use

enum class Extra { stats, add };

template <class T>
struct ProductArgs {
  int rows, n, k;
  const T *x, *w;
  T* y;
  ColumnStats stats;
};

/// Shared memory of a block.
template <int kColumns, int kChunks>
struct Room {
  union {
    unsigned char x[kStages][kTileRows * kLine];
    ColumnRoom<kColumns, 4> sums;  // in the end
  };
  unsigned char w[kChunks][kColumns * kLine];
  float shift[kColumns];
};

__device__ unsigned arrivals[64];  // by slice of columns; one stream, so that no two kernels use it at once

/// Where 16 bytes of a line are: pieces of the same number of the eight rows that make a matrix lie in
/// different banks.
__device__ inline int place_of_x(int row, int piece) { return row * kLine + (piece ^ (row & 7)) * 16; }
/// Likewise of w, whose matrices are made of every eighth pair of 32 columns, see column_of().
__device__ inline int place_of_w(int column, int piece) {
  return column * kLine + (piece ^ (column / 8 % 4 * 2 + column % 2)) * 16;
}
/// A barrier for warps `pair` and `pair` + 4, which share the rows that they copy and read, and go on without
/// the others.
__device__ inline void sync_pair([[maybe_unused]] int pair) {
#ifdef __CUDA_ARCH__
  asm volatile("bar.sync %0, %1;" ::"r"(pair + 1), "n"(2 * kWarp) : "memory");
#else
  __syncthreads();  // all take as many steps
#endif
}

/// The block's columns of w, from [n, k] or by columns, [k, n].
template <int kColumns, int kChunks, bool by_columns, class T>
__device__ inline void take_w(const ProductArgs<T>& a, Room<kColumns, kChunks>& room) {
  const int thread = int(threadIdx.x), first = int(blockIdx.x) * kColumns;
  for (int at = thread; at < kColumns * kChunks * 8; at += kThreads) {
    if constexpr (by_columns) {
      const int k = at / (kColumns / 8), column = at % (kColumns / 8) * 8;
      const Pack<T, 8> eight = load<8>(a.w + int64_t(k) * a.n + first + column);
#pragma unroll
      for (int j = 0; j < 8; ++j)
        reinterpret_cast<T*>(room.w[k / kChunk] + place_of_w(column + j, k % kChunk / 8))[k % 8] = eight.v[j];
    } else {
      const int column = at / (kChunks * 8), piece = at % (kChunks * 8);
      copy_beside(room.w[piece / 8] + place_of_w(column, piece % 8),
                  a.w + int64_t(first + column) * a.k + piece * 8, false);
    }
  }
}

template <class T, int kColumns, int kChunks, Extra extra>
__global__ void __launch_bounds__(kThreads, kBlocks) product_kernel(ProductArgs<T> a) {
#ifdef __CUDA_ARCH__
  extern __shared__ unsigned char memory[];
  auto& room = *reinterpret_cast<Room<kColumns, kChunks>*>(memory);
#else
  alignas(128) __shared__ Room<kColumns, kChunks> room;
#endif
  // 64 columns at a time, of which half are a warp's. Where there are more, a tile's chunks are all there at
  // once.
  constexpr int kHalves = kColumns / 64, kAtOnce = kHalves == 1 ? 1 : kChunks;
  constexpr int kAhead = kStages / kAtOnce - 1;
  static_assert(kAhead > 0);
  const int thread = int(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int warp_row = warp % 4 * 32, warp_column = warp / 4 * 32, row_in = lane / 4, quarter = lane % 4;
  const int first_column = int(blockIdx.x) * kColumns;
  const int tiles = (a.rows + kTileRows - 1) / kTileRows, blocks = int(gridDim.y);
  // Where a lane's row of the first matrices lies; for others bits 5 and 6 change by exclusive or.
  const int x_at = place_of_x(warp_row + lane % 16, lane / 16);
  const int w_at = place_of_w(warp_column + column_of(lane / 16, lane % 8), lane / 8 % 2);
  wait_for_earlier();

  take_w<kColumns, kChunks, extra == Extra::add>(a, room);
  commit_copies();
  int next_tile = int(blockIdx.y), next_chunk = 0, next_stage = 0;
  const auto copy_next = [&] {
#pragma unroll
    for (int c = 0; c < kAtOnce; ++c) {
      if (next_tile >= tiles) break;
#pragma unroll
      for (int i = 0; i < kTileRows * 8 / kThreads; ++i) {
        const int row = warp_row + (warp / 4 * kWarp + lane) / 8 + i * 8, piece = lane % 8,
                  r = next_tile * kTileRows + row;
        const bool beyond = r >= a.rows;
        copy_beside(room.x[next_stage] + place_of_x(row, piece),
                    a.x + (beyond ? 0 : int64_t(r) * a.k + next_chunk * kChunk + piece * 8), beyond);
      }
      next_stage = (next_stage + 1) % kStages;
      if (++next_chunk == kChunks) next_chunk = 0, next_tile += blocks;
    }
    commit_copies();
  };
  for (int i = 0; i < kAhead; ++i) copy_next();
  wait_for_copies<kAhead>();
  __syncthreads();  // w is there

  // What is added to, on its way from the tile before on.
  Held<T, 8> before[kHalves][2][2];
  const auto fetch = [&](int tile, int half) {
    if constexpr (extra == Extra::add) {
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int row = tile * kTileRows + warp_row + row_in + i * 16 + h * 8;
          if (row < a.rows)
            before[half][i][h] = Held<T, 8>::from(a.y + int64_t(row) * a.n + first_column + half * 64 +
                                                  warp_column + quarter * 8);
        }
    }
  };
#pragma unroll
  for (int half = 0; half < kHalves; ++half) fetch(int(blockIdx.y), half);
  float sum[kHalves][8] = {}, squares[kHalves][8] = {};
  int stage = 0;
  for (int tile = int(blockIdx.y); tile < tiles; tile += blocks) {
    const int row = tile * kTileRows + warp_row + row_in;
    const bool whole = (tile + 1) * kTileRows <= a.rows;
    const auto is_row = [&](int i, int h) { return whole || row + i * 16 + h * 8 < a.rows; };
    const auto target = [&](int half, int i, int h) {
      return a.y + int64_t(row + i * 16 + h * 8) * a.n + first_column + half * 64 + warp_column + quarter * 8;
    };
    Quarter acc;
    const auto clear = [&] {
#pragma unroll
      for (auto& rows : acc)
        for (auto& matrix : rows)
          for (float& v : matrix) v = 0;
    };
    // acc += what chunk `chunk`, which is in stage `at`, gives for 64 of the columns.
    const auto multiply = [&](int chunk, int at, int half) {
#pragma unroll
      for (int k = 0; k < kChunk / 16; ++k) {
        uint32_t x[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i) load_matrices(room.x[at] + (x_at ^ k * 32) + i * 16 * kLine, x[i]);
#pragma unroll
        for (int m = 0; m < 4; m += 2) {
          uint32_t w[4];
          load_matrices(room.w[chunk] + (w_at ^ k * 32) + (half * 64 + m * 2) * kLine, w);
#pragma unroll
          for (int e = 0; e < 2; ++e)
#pragma unroll
            for (int i = 0; i < 2; ++i) multiply_add<T>(x[i], w[2 * e], w[2 * e + 1], acc[i][m + e]);
        }
      }
    };
    const auto finish = [&]<int half>(std::integral_constant<int, half>) {
      if constexpr (extra == Extra::stats) {
        float* const shift = room.shift + half * 64 + warp_column + quarter * 8;
        if (tile == int(blockIdx.y)) {
          if (warp % 4 == 0 && row_in == 0) put_shift(acc, shift);
          __syncthreads();
        }
        add_rows(acc, shift, is_row, sum[half], squares[half]);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          if constexpr (extra == Extra::add) {
#pragma unroll
            for (int m = 0; m < 4; ++m) {
              float old[2];
              before[half][i][h].get(m, old);
              acc[i][m][2 * h] += old[0];
              acc[i][m][2 * h + 1] += old[1];
            }
          }
          if (is_row(i, h)) row_of<T>(acc, i, h).store(target(half, i, h));
        }
      fetch(tile + blocks, half);
    };
    const auto wait = [&] {
      wait_for_copies<kAhead - 1>();
      sync_pair(warp % 4);  // the copies are there, and nobody reads what is copied over next
      copy_next();
    };
    if constexpr (kHalves == 1) {
      clear();
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        wait();
        multiply(chunk, stage, 0);
        stage = (stage + 1) % kStages;
      }
      finish(std::integral_constant<int, 0>{});
    } else {
      wait();
      const auto one = [&](auto half) {
        clear();
#pragma unroll
        for (int chunk = 0; chunk < kChunks; ++chunk) multiply(chunk, (stage + chunk) % kStages, half);
        finish(half);
      };
      one(std::integral_constant<int, 0>{});
      one(std::integral_constant<int, 1>{});
      stage = (stage + kChunks) % kStages;
    }
  }
  if constexpr (extra == Extra::stats) {
    wait_for_copies<0>();
    tell_columns(a.stats, room.sums, room.shift, arrivals, warp % 4, sum, squares,
                 [&](int half) { return half * 64 + warp_column + quarter * 8; });
  }
}

template <class T, int kColumns, int kChunks, Extra extra>
void start(ProductArgs<T> a) {
  const dim3 grid = column_grid(a.rows, a.n, kColumns, kTileRows, kBlocks);
  if (extra == Extra::stats) a.stats = column_stats(a.rows, a.n, kTileRows, grid, a.stats.mean, a.stats.var);
  launch_early_with(sizeof(Room<kColumns, kChunks>), product_kernel<T, kColumns, kChunks, extra>, grid,
                    dim3(kThreads), a);
}

template <Extra extra, class T>
void choose(const ProductArgs<T>& a) {
  const int chunks = a.k / kChunk;
  if constexpr (extra == Extra::stats) {
    if (chunks == 2) return start<T, 128, 2, extra>(a);
    if (chunks == 1 && a.n % 128 == 0) return start<T, 128, 1, extra>(a);
  } else {
    // Of 128 columns what is added to would not fit into registers.
    if (chunks == 2) return start<T, 64, 2, extra>(a);
  }
  chunks == 1 ? start<T, 64, 1, extra>(a) : start<T, 64, 4, extra>(a);
}

}  // namespace

template <class T>
bool has_conv_product(int64_t rows, int64_t n, int64_t k) {
  return sizeof(T) == 2 && rows > 0 && rows <= (int64_t{1} << 30) && n > 0 && n % 64 == 0 &&
         n <= 64 * int64_t(std::size(arrivals)) && (k == 64 || k == 256 || (k == 128 && n % 128 == 0));
}

template <class T>
void conv_product_stats(int64_t rows, int64_t n, int64_t k, const T* x, const T* w, T* y, float* mean,
                        float* var) {
  choose<Extra::stats>(ProductArgs<T>{int(rows), int(n), int(k), x, w, y, {.mean = mean, .var = var}});
}

template <class T>
void conv_product_add(int64_t rows, int64_t n, int64_t k, const T* x, const T* w, T* y) {
  choose<Extra::add>(ProductArgs<T>{int(rows), int(n), int(k), x, w, y, {}});
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
