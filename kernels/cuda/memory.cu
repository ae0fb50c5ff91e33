// Filling, converting and rearranging memory.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/strided.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kBlock = 256, kLoads = 4;  // threads of a block, elements or packs that each has in flight

/// Calls f with a value of an unsigned type (Pack of them for 16) of `bytes` bytes.
template <class F>
void with_unit(int bytes, const char* name, F&& f) {
  switch (bytes) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    case 8:
      return f(uint64_t{});
    default:
      throw Error(std::string(name) + ": elements of " + std::to_string(bytes) +
                  " bytes; 1, 2, 4 and 8 are possible");
  }
}

// --- fill ---

/// y[i] = value; the packs begin at `head`, the first place at which 16 bytes can be written.
template <class U>
__global__ void __launch_bounds__(kBlock) fill_kernel(int64_t n, int head, U value, U* y) {
  wait_for_earlier();
  constexpr int N = 16 / int(sizeof(U));
  Pack<U, N> pack;
#pragma unroll
  for (int j = 0; j < N; ++j) pack.v[j] = value;
  const int64_t tile = head + int64_t(blockIdx.x) * (kBlock * N * kLoads);
#pragma unroll
  for (int k = 0; k < kLoads; ++k) {
    const int64_t i = tile + (k * kBlock + int(threadIdx.x)) * N;
    if (i + N <= n)
      store(y + i, pack);
    else
      for (int64_t j = i; j < n; ++j) y[j] = value;
  }
  if (blockIdx.x == 0 && int(threadIdx.x) < head) y[threadIdx.x] = value;
}

// --- convert ---

template <class To, class From>
__device__ To converted(From x) {
  constexpr bool halves = sizeof(From) == 2 || sizeof(To) == 2;
  if constexpr (std::is_same_v<From, To>)
    return x;
  else if constexpr (halves)
    return To(float(x));
  else
    return To(x);
}

template <class From, class To>
__global__ void __launch_bounds__(kBlock) convert_kernel(int64_t n, bool wide, const From* x, To* y) {
  wait_for_earlier();
  constexpr int N = 16 / int(std::max(sizeof(From), sizeof(To))), kPacks = 2, kTile = kBlock * N * kPacks;
  const int64_t tile = int64_t(blockIdx.x) * kTile;
  const int count = n - tile < kTile ? int(n - tile) : kTile, packed = wide ? count / N * N : 0;
  Pack<From, N> in[kPacks] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int i = (p * kBlock + int(threadIdx.x)) * N;
    if (i < packed) in[p] = load<N>(x + tile + i);
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int i = (p * kBlock + int(threadIdx.x)) * N;
    if (i >= packed) continue;
    Pack<To, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) out.v[j] = converted<To>(in[p].v[j]);
    store(y + tile + i, out);
  }
#pragma unroll 1
  for (int i = packed + int(threadIdx.x); i < count; i += kBlock) y[tile + i] = converted<To>(x[tile + i]);
}

// --- permute ---

/// y[i] = x[offset of i]
template <class U>
__global__ void __launch_bounds__(kBlock) gather_kernel(uint32_t n, const Walk<1> walk, const U* x, U* y) {
  wait_for_earlier();
  const uint32_t first = blockIdx.x * uint32_t(kBlock * kLoads) + threadIdx.x;
  U value[kLoads] = {};
#pragma unroll
  for (int k = 0; k < kLoads; ++k) {
    const uint32_t i = first + k * kBlock;
    if (i >= n) break;
    int64_t offset[1];
    walk.offsets(i, offset);
    value[k] = x[offset[0]];
  }
#pragma unroll
  for (int k = 0; k < kLoads; ++k) {
    const uint32_t i = first + k * kBlock;
    if (i < n) y[i] = value[k];
  }
}

constexpr int kTileSize = 32, kTileRows = kBlock / kTileSize;

/// Sizes and strides of y[batch..][row][..][column] = x[..] whose neighbours in x lie along `row`.
struct Transpose {
  int64_t rows, columns;
  int64_t x_column, y_row;  // strides; those of a row of x and of a column of y are 1
  uint32_t row_tiles, column_tiles;
};

/// Tiles of 32 N times 32 N elements go through shared memory, so that both sides are read and written in
/// whole lines. With N = 2 a load holds two neighbours along a row of x, and a store two along a row of y.
template <class U, int N>
__global__ void __launch_bounds__(kBlock)
    transpose_kernel(const Transpose t, const Walk<2> batch, const U* x, U* y) {
  wait_for_earlier();
  constexpr int kSide = kTileSize * N;
  // The odd pitch keeps the elements of a column in different banks.
  alignas(16) __shared__ U tile[kSide][kSide + (N == 1 ? 1 : 2)];
  const uint32_t column_tile = blockIdx.x % t.column_tiles, rest = blockIdx.x / t.column_tiles;
  const uint32_t row_tile = rest % t.row_tiles;
  int64_t offset[2];
  batch.offsets(rest / t.row_tiles, offset);
  const int64_t row0 = int64_t(row_tile) * kSide, column0 = int64_t(column_tile) * kSide;
  const int lane = int(threadIdx.x) % kTileSize * N, line = int(threadIdx.x) / kTileSize;
  x += offset[0] + row0 + column0 * t.x_column;
  y += offset[1] + row0 * t.y_row + column0;
  const int rows = t.rows - row0 < kSide ? int(t.rows - row0) : kSide;
  const int columns = t.columns - column0 < kSide ? int(t.columns - column0) : kSide;
#pragma unroll
  for (int c = line; c < kSide; c += kTileRows)
    if (c < columns && lane < rows) store(&tile[c][lane], load<N>(x + c * t.x_column + lane));
  __syncthreads();
#pragma unroll
  for (int r = line; r < kSide; r += kTileRows)
    if (r < rows && lane < columns) {
      Pack<U, N> out;
#pragma unroll
      for (int j = 0; j < N; ++j) out.v[j] = tile[lane + j][r];
      store(y + r * t.y_row + lane, out);
    }
}

/// A strided view of x (array 0) and dense y (array 1) of the same shape.
template <class U>
void gather(const Strided<2>& view, const U* x, U* y) {
  Strided<1> s{view.ndim, view.size, {view.stride[0]}};
  each_part(s, [&](const Strided<1>& part, int64_t start, const std::array<int64_t, 1>& offset) {
    const int64_t n = part.count();
    launch_early(gather_kernel<U>, blocks_for(n, kBlock * kLoads), kBlock, uint32_t(n), Walk<1>(part),
                 x + offset[0], y + start);
  });
}

/// Dimension `row` has stride 1 in x, the innermost one in y.
template <int N, class U>
void transpose(Strided<2> view, int row, const U* x, U* y) {
  const size_t inner = size_t(view.ndim) - 1;
  Transpose t{};
  t.rows = view.size[size_t(row)];
  t.columns = view.size[inner];
  t.y_row = view.stride[1][size_t(row)];
  t.x_column = view.stride[0][inner];
  t.row_tiles = uint32_t((t.rows + kTileSize * N - 1) / (kTileSize * N));
  t.column_tiles = uint32_t((t.columns + kTileSize * N - 1) / (kTileSize * N));
  view.erase(int(inner));
  view.erase(row);
  const int64_t tiles = int64_t(t.row_tiles) * t.column_tiles;
  each_part(
      view,
      [&](const Strided<2>& part, int64_t, const std::array<int64_t, 2>& offset) {
        launch_early(transpose_kernel<U, N>, unsigned(part.count() * tiles), kBlock, t, Walk<2>(part),
                     x + offset[0], y + offset[1]);
      },
      std::max<int64_t>(1, kMaxWalk / tiles));
}

template <class U>
void rearrange(const Strided<2>& view, const U* x, U* y) {
  constexpr int64_t kWorthwhile = 16;  // a tile's side that is less filled wastes more than it saves
  const int inner = view.ndim - 1;
  int row = -1;
  for (int d = 0; d < inner; ++d)
    if (view.stride[0][size_t(d)] == 1) row = d;
  if (row < 0 || view.stride[0][size_t(inner)] == 1 || view.size[size_t(row)] < kWorthwhile ||
      view.size[size_t(inner)] < kWorthwhile)
    return gather(view, x, y);
  if constexpr (sizeof(U) <= 2) {
    bool pairs = reinterpret_cast<uintptr_t>(x) % (2 * sizeof(U)) == 0 &&
                 reinterpret_cast<uintptr_t>(y) % (2 * sizeof(U)) == 0 && view.size[size_t(row)] % 2 == 0 &&
                 view.size[size_t(inner)] % 2 == 0;
    for (int d = 0; d < view.ndim; ++d) {
      pairs = pairs && (d == row || view.stride[0][size_t(d)] % 2 == 0);
      pairs = pairs && (d == inner || view.stride[1][size_t(d)] % 2 == 0);
    }
    if (pairs) return transpose<2>(view, row, x, y);
  }
  transpose<1>(view, row, x, y);
}

/// The view in units of up to 16 bytes, where rows of x are dense and everything is a multiple of them.
void permute_dense_rows(int element_bytes, Strided<2> view, const void* x, void* y) {
  const size_t inner = size_t(view.ndim) - 1;
  int64_t bytes = 16;
  const auto divides = [&](int64_t n) {
    while (n % bytes != 0) bytes /= 2;
  };
  divides(int64_t(reinterpret_cast<uintptr_t>(x) % 16));
  divides(int64_t(reinterpret_cast<uintptr_t>(y) % 16));
  divides(view.size[inner] * element_bytes);
  for (size_t d = 0; d < inner; ++d) divides(std::abs(view.stride[0][d]) * element_bytes);
  const int64_t factor = bytes / element_bytes;
  view.size[inner] /= factor;
  for (size_t d = 0; d < inner; ++d) view.stride[0][d] /= factor;
  if (bytes == 16) {
    using Unit = Pack<uint32_t, 4>;
    return gather(view, static_cast<const Unit*>(x), static_cast<Unit*>(y));
  }
  with_unit(int(bytes), "cuda::permute",
            [&]<class U>(U) { gather(view, static_cast<const U*>(x), static_cast<U*>(y)); });
}

}  // namespace

void permute(int element_bytes, int ndim, const int64_t* sizes, const int64_t* strides, const void* x,
             void* y) {
  if (ndim < 0 || ndim > kMaxDims)
    throw Error("cuda::permute: " + std::to_string(ndim) + " dimensions; at most " +
                std::to_string(kMaxDims) + " are possible");
  Strided<2> view;
  view.ndim = ndim;
  int64_t n = 1;
  for (int d = ndim - 1; d >= 0; --d) {
    view.size[size_t(d)] = sizes[d];
    view.stride[0][size_t(d)] = strides[d];
    view.stride[1][size_t(d)] = n;
    n *= sizes[d];
  }
  if (n == 0) return;
  view.collapse();
  if (view.ndim == 0 || (view.ndim == 1 && view.stride[0][0] == 1)) return copy(y, x, n * element_bytes);
  if (view.stride[0][size_t(view.ndim) - 1] == 1) return permute_dense_rows(element_bytes, view, x, y);
  with_unit(element_bytes, "cuda::permute",
            [&]<class U>(U) { rearrange(view, static_cast<const U*>(x), static_cast<U*>(y)); });
}

bool waits_for_earlier() {
  cudaFuncAttributes of_any{};
  check(cudaFuncGetAttributes(&of_any, fill_kernel<uint8_t>), "cudaFuncGetAttributes");
  return of_any.ptxVersion >= 90;
}

void fill(int element_bytes, int64_t n, const void* value, void* y) {
  if (n <= 0) return;
  with_unit(element_bytes, "cuda::fill", [&]<class U>(U unit) {
    constexpr int N = 16 / int(sizeof(U));
    std::memcpy(&unit, value, sizeof unit);
    const int skew = int(reinterpret_cast<uintptr_t>(y) % 16 / sizeof(U));
    const int head = skew == 0 ? 0 : int(std::min<int64_t>(N - skew, n));
    launch_early(fill_kernel<U>, blocks_for(n - head, kBlock * N * kLoads), kBlock, n, head, unit,
                 static_cast<U*>(y));
  });
}

template <class From, class To>
void convert(int64_t n, const From* x, To* y) {
  if (n <= 0) return;
  if constexpr (std::is_same_v<From, To>) {
    copy(y, x, n * int64_t(sizeof(To)));
  } else {
    constexpr int N = 16 / int(std::max(sizeof(From), sizeof(To)));
    const bool wide = reinterpret_cast<uintptr_t>(x) % (N * sizeof(From)) == 0 &&
                      reinterpret_cast<uintptr_t>(y) % (N * sizeof(To)) == 0;
    launch_early(convert_kernel<From, To>, blocks_for(n, kBlock * N * 2), kBlock, n, wide, x, y);
  }
}

#define WEFT_CONVERT_TO(From, To) template void convert(int64_t, const From*, To*);
#define WEFT_CONVERT(From)       \
  WEFT_CONVERT_TO(From, float)   \
  WEFT_CONVERT_TO(From, bf16)    \
  WEFT_CONVERT_TO(From, f16)     \
  WEFT_CONVERT_TO(From, int64_t) \
  WEFT_CONVERT_TO(From, uint8_t)
WEFT_CONVERT(float)
WEFT_CONVERT(bf16)
WEFT_CONVERT(f16)
WEFT_CONVERT(int64_t)
WEFT_CONVERT(uint8_t)

}  // namespace weft::kernels::cuda
