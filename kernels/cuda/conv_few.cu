// Beside y such an x is small, so that what counts is to write y once and read it no more. A warp takes 32
// pixels of y: its lanes gather what is under the filter right into the registers that the tensor cores want
// it in, and keep the filter there.
#include "weft/kernels/cuda/conv_few.h"

#include "weft/kernels/cuda/channel_sums.h"
#include "weft/kernels/cuda/column_stats.h"
#include "weft/kernels/cuda/conv_geometry.h"
#include "weft/kernels/cuda/strided.h"
#include "weft/kernels/cuda/tensor_core.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kColumns = 32, kRowWarps = kColumnThreads / kWarp, kTileRows = kRowWarps * kWarp;
constexpr int kBlocks = 2;  // leaves 128 registers a thread
constexpr int kMostWeights = 32, kMostSlices = 64;
static_assert(kColumns == kSumColumns);

struct Geometry : RowGeometry {
  int deep, reach;  // from a filter's first row and element to behind its last
  Divisor OH, OW;

  explicit Geometry(const Conv2dParams& p)
      : RowGeometry(p),
        deep(int((p.kernel_h - 1) * p.dilation_h) + 1),
        reach(int(((p.kernel_w - 1) * p.dilation_w + 1) * p.in_c)),
        OH(uint32_t(p.out_h())),
        OW(uint32_t(p.out_w())) {}
};

template <class T>
struct FewArgs {
  Geometry g;
  const T *x, *w;
  T* y;
  ColumnStats stats;
};

/// A pixel of y, which goes on to those behind it without divisions.
struct Pixel {
  int image, oh, ow;
  __device__ Pixel(const Geometry& g, int row) {
    const uint32_t line = g.OW.divide(uint32_t(row));
    image = int(g.OH.divide(line));
    oh = int(line) - image * int(g.OH.d);
    ow = row - int(line) * int(g.OW.d);
  }
  __device__ void advance(const Geometry& g, int count) {
    for (ow += count; ow >= int(g.OW.d); ow -= int(g.OW.d))
      if (++oh == int(g.OH.d)) oh = 0, ++image;
  }
};

/// What lies under the filter for one of them.
template <class T>
struct Window {
  uint32_t from;  // bytes from x on: so the addition is one instruction
  uint32_t taps;  // the bits of those inside of x

  Window() = default;
  __device__ Window(const Geometry& g, const Pixel& pixel, bool exists) {
    const int top = pixel.oh * g.sh - g.ph, start = pixel.ow * g.step - g.left;
    from = uint32_t((pixel.image * g.H + top) * g.row + start) * uint32_t(sizeof(T));
    taps = exists ? ~0u : 0;
    if (!exists || (top >= 0 && top + g.deep <= g.H && start >= 0 && start + g.reach <= g.row)) return;
    uint32_t tap = 1;
    for (int down = 0; down < g.deep; down += g.dh)
      for (int along = 0; along < g.reach; along += g.dw * g.C, tap *= 2)
        if (unsigned(top + down) >= unsigned(g.H) || unsigned(start + along) >= unsigned(g.row)) taps &= ~tap;
  }
  /// The elements `place` bytes apart from the first that belong to `tap`, a bit; 0 outside of x. Without
  /// branches, so that those of several windows are on their way at once.
  template <int N>
  __device__ void read(const T* x, const uint32_t (&place)[N], const uint32_t (&tap)[N],
                       uint16_t (&to)[N]) const {
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const char* const at = reinterpret_cast<const char*>(x) + (from + place[j]);
      to[j] = taps & tap[j] ? *reinterpret_cast<const uint16_t*>(at) : uint16_t{0};
    }
  }
};
/// Of weight k; no tap where there is none.
__device__ inline void place_of(const Geometry& g, int k, uint32_t& place, uint32_t& tap) {
  const int t = k / g.C;
  place = uint32_t(t / g.kernel_w * g.dh * g.row + t % g.kernel_w * g.dw * g.C + k % g.C) * 2;
  tap = k < g.weights ? 1u << t : 0;
}
__device__ inline uint32_t pack(uint16_t low, uint16_t high) { return uint32_t(low) | uint32_t(high) << 16; }

__device__ unsigned arrivals[kMostSlices];  // one stream, so that no two kernels use it at once

template <class T>
__global__ void __launch_bounds__(kColumnThreads, kBlocks) few_kernel(FewArgs<T> a) {
  __shared__ ColumnRoom<kColumns, kRowWarps> room;
  alignas(16) __shared__ float shift[kColumns];
  const Geometry& g = a.g;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp, row_in = lane / 4,
            quarter = lane % 4;
  const int first_column = int(blockIdx.x) * kColumns, rows = a.stats.rows,
            tiles = (rows + kTileRows - 1) / kTileRows;
  wait_for_earlier();

  // A lane has 8 of the weights' numbers: two side by side, in each half of two matrices.
  constexpr int kOwn = 8;
  const auto weight_of = [&](int j) { return j / 4 * 16 + j / 2 % 2 * 8 + quarter * 2 + j % 2; };
  uint32_t place[kOwn];
  uint32_t tap[kOwn];
#pragma unroll
  for (int j = 0; j < kOwn; ++j) place_of(g, weight_of(j), place[j], tap[j]);
  uint32_t w[2][4][2];
#pragma unroll
  for (int s = 0; s < 2; ++s)
#pragma unroll
    for (int m = 0; m < 4; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const T* const from = a.w + int64_t(first_column + column_of(m, row_in)) * g.weights;
        w[s][m][h] = 0;
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (const int k = weight_of(s * 4 + h * 2 + e); k < g.weights)
            w[s][m][h] |= uint32_t(from[k].bits) << 16 * e;
      }

  float sum[1][8] = {}, squares[1][8] = {};
  for (int tile = int(blockIdx.y); tile < tiles; tile += int(gridDim.y)) {
    const int row = tile * kTileRows + warp * kWarp + row_in;
    const bool whole = (tile + 1) * kTileRows <= rows;
    const auto is_row = [&](int i, int h) { return whole || row + i * 16 + h * 8 < rows; };
    Pixel pixel(g, row);
    Window<T> windows[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (i + h > 0) pixel.advance(g, 8);
        windows[i][h] = Window<T>(g, pixel, is_row(i, h));
      }
    uint16_t v[2][2][kOwn];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) windows[i][h].read(a.x, place, tap, v[i][h]);
    uint32_t x[2][2][4];  // of 16 rows and 16 weights
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int j = 0; j < kOwn; j += 2) x[i][j / 4][j / 2 % 2 * 2 + h] = pack(v[i][h][j], v[i][h][j + 1]);
    Quarter acc = {};
#pragma unroll
    for (int s = 0; s < 2; ++s)
#pragma unroll
      for (int m = 0; m < 4; ++m)
#pragma unroll
        for (int i = 0; i < 2; ++i) multiply_add<T>(x[i][s], w[s][m][0], w[s][m][1], acc[i][m]);
    if (tile == int(blockIdx.y)) {
      if (warp == 0 && row_in == 0) put_shift(acc, shift + quarter * 8);
      __syncthreads();
    }
    add_rows(acc, shift + quarter * 8, is_row, sum[0], squares[0]);
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        if (is_row(i, h))
          row_of<T>(acc, i, h).store(a.y + int64_t(row + i * 16 + h * 8) * a.stats.n + first_column +
                                     quarter * 8);
  }
  tell_columns(a.stats, room, shift, arrivals, warp, sum, squares, [&](int) { return quarter * 8; });
}

// --- the gradient of w ---

constexpr int kStages = 3, kGradients = kMostWeights * kColumns;
constexpr int kLine = kColumns * 2;  // of dy, in shared memory

template <class T>
struct WeightArgs {
  Geometry g;
  int rows, n;
  const T *x, *dy;
  float* partial;  // [slice, block, kMostWeights, kColumns]
};

/// Where 16 bytes of a line are, so that those of eight neighbours lie in different banks.
__device__ inline int place_of_dy(int row, int piece) { return row * kLine + (piece ^ (row / 2 & 3)) * 16; }

/// [weights, channels] of a block: each warp multiplies what lies under the filter for 32 pixels, gathered as
/// above, with dy, copies of which are under way. blockIdx.x counts slices of channels, blockIdx.y the blocks
/// that share the rows.
template <class T>
__global__ void __launch_bounds__(kColumnThreads, kBlocks) few_weight_kernel(WeightArgs<T> a) {
  alignas(128) __shared__ union {
    unsigned char dy[kStages][kRowWarps][kWarp * kLine];
    float sums[kRowWarps][kGradients];
  } room;
  const Geometry& g = a.g;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp, row_in = lane / 4,
            quarter = lane % 4;
  wait_for_earlier();
  const int tiles = (a.rows + kTileRows - 1) / kTileRows;
  int next = int(blockIdx.y), next_stage = 0;
  const auto copy_next = [&] {
    if (next < tiles) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = i * 8 + row_in, row = next * kTileRows + warp * kWarp + at;
        copy_beside(room.dy[next_stage][warp] + place_of_dy(at, quarter),
                    a.dy + (row < a.rows ? int64_t(row) * a.n + int(blockIdx.x) * kColumns + quarter * 8 : 0),
                    row >= a.rows);
      }
      next += int(gridDim.y);
      next_stage = (next_stage + 1) % kStages;
    }
    commit_copies();
  };
  for (int i = 0; i < kStages - 1; ++i) copy_next();
  constexpr int kOwn = 4;  // weights of a lane
  uint32_t place[kOwn];
  uint32_t tap[kOwn];
#pragma unroll
  for (int j = 0; j < kOwn; ++j) place_of(g, row_in + j * 8, place[j], tap[j]);
  Quarter acc = {};
  int stage = 0;
  for (int tile = int(blockIdx.y); tile < tiles; tile += int(gridDim.y), stage = (stage + 1) % kStages) {
    const int row = tile * kTileRows + warp * kWarp;
    Pixel pixel(g, row + quarter * 2);
    uint32_t x[2][2][4];  // of 16 weights and 16 pixels
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      Window<T> windows[2][2];
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          if (s + half + e > 0) pixel.advance(g, e == 0 ? 7 : 1);
          windows[half][e] = Window<T>(g, pixel, row + s * 16 + half * 8 + quarter * 2 + e < a.rows);
        }
      uint16_t v[2][2][kOwn];
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int e = 0; e < 2; ++e) windows[half][e].read(a.x, place, tap, v[half][e]);
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < kOwn; ++j) x[s][j / 2][half * 2 + j % 2] = pack(v[half][0][j], v[half][1][j]);
    }
    wait_for_copies<kStages - 2>();
    __syncwarp();  // the copies are there, and nobody reads what is copied over next
    copy_next();
#pragma unroll
    for (int s = 0; s < 2; ++s)
#pragma unroll
      for (int m = 0; m < 4; m += 2) {
        uint32_t dy[4];
        load_matrices<true>(room.dy[stage][warp] + place_of_dy(s * 16 + lane % 16, m + lane / 16), dy);
#pragma unroll
        for (int e = 0; e < 2; ++e)
#pragma unroll
          for (int i = 0; i < 2; ++i) multiply_add<T>(x[s][i], dy[2 * e], dy[2 * e + 1], acc[i][m + e]);
      }
  }
  wait_for_copies<0>();
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int m = 0; m < 4; ++m)
#pragma unroll
      for (int v = 0; v < 4; ++v)
        room.sums[warp][(i * 16 + v / 2 * 8 + row_in) * kColumns + m * 8 + quarter * 2 + v % 2] =
            acc[i][m][v];
  __syncthreads();
  float* const to = a.partial + (int64_t(blockIdx.x) * gridDim.y + blockIdx.y) * kGradients;
  for (int at = int(threadIdx.x); at < kGradients; at += kColumnThreads) {
    float sum = 0;
    for (int w = 0; w < kRowWarps; ++w) sum += room.sums[w][at];
    to[at] = sum;
  }
}

/// dw from the blocks' results: 32 channels of a weight for each block, blockIdx.x, of a slice, blockIdx.y.
template <class T>
__global__ void __launch_bounds__(kSumColumns* kSumGroups)
    few_combine_kernel(int weights, int blocks, const float* partial, T* dw) {
  __shared__ SumRoom room;
  const int column = int(threadIdx.x) % kSumColumns, k = int(blockIdx.x);
  wait_for_earlier();
  const float* const from = partial + int64_t(blockIdx.y) * blocks * kGradients + k * kColumns + column;
  const double sum = sum_of_blocks(blocks, from, kGradients, true, room);
  if (int(threadIdx.x) < kSumColumns)
    dw[(int64_t(blockIdx.y) * kColumns + column) * weights + k] = T(float(sum));
}

// --- the host ---

dim3 few_grid(const Conv2dParams& p) {
  return column_grid(pixels_of(p), p.out_c, kColumns, kTileRows, kBlocks);
}

}  // namespace

template <class T>
bool has_conv_few(const Conv2dParams& p) {
  const int64_t image = (p.in_h + 2 * p.pad_h) * (p.in_w + 2 * p.pad_w) * p.in_c;
  return sizeof(T) == 2 && p.groups == 1 && weights_of(p) > 0 && weights_of(p) <= kMostWeights &&
         p.out_c > 0 && p.out_c % kColumns == 0 && p.out_c <= kColumns * kMostSlices && pixels_of(p) > 0 &&
         pixels_of(p) <= int64_t{1} << 30 && image * p.batch <= int64_t{1} << 30;
}

template <class T>
void conv_few_stats(const Conv2dParams& p, const T* x, const T* w, T* y, float* mean, float* var) {
  const dim3 grid = few_grid(p);
  launch_early(
      few_kernel<T>, grid, dim3(kColumnThreads),
      FewArgs<T>{Geometry(p), x, w, y, column_stats(pixels_of(p), p.out_c, kTileRows, grid, mean, var)});
}

int64_t conv_few_weight_bytes(const Conv2dParams& p) {
  const dim3 grid = few_grid(p);
  return int64_t(grid.x) * grid.y * kGradients * int64_t(sizeof(float));
}

template <class T>
void conv_few_weight(const Conv2dParams& p, const T* x, const T* dy, T* dw, void* memory) {
  const dim3 grid = few_grid(p);
  auto* const partial = static_cast<float*>(memory);
  const Geometry g(p);
  launch_early(few_weight_kernel<T>, grid, dim3(kColumnThreads),
               WeightArgs<T>{g, int(pixels_of(p)), int(p.out_c), x, dy, partial});
  launch_early(few_combine_kernel<T>, dim3(unsigned(g.weights), grid.x), dim3(kSumColumns * kSumGroups),
               g.weights, int(grid.y), partial, dw);
}

#define WEFT_INSTANTIATE(T)                                                                  \
  template bool has_conv_few<T>(const Conv2dParams&);                                        \
  template void conv_few_stats(const Conv2dParams&, const T*, const T*, T*, float*, float*); \
  template void conv_few_weight(const Conv2dParams&, const T*, const T*, T*, void*);
WEFT_INSTANTIATE(bf16)
WEFT_INSTANTIATE(f16)
#undef WEFT_INSTANTIATE
template bool has_conv_few<float>(const Conv2dParams&);

}  // namespace weft::kernels::cuda
