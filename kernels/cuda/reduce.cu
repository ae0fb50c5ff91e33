// Reductions. A long one is cut, by its size alone, into pieces for several blocks, whose partial results a
// second kernel adds up in their order: the same bits in every run and on every device.
#include <algorithm>
#include <cmath>

#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/reduction.h"
#include "weft/kernels/cuda/strided.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kBlock = 256;

struct Sum {
  template <class A>
  static __device__ A start() {
    return 0;
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return a + b;
  }
};
/// NaN where either is.
struct Max {
  template <class A>
  static __device__ A start() {
    return -A(INFINITY);
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return a > b || a != a ? a : b;
  }
};
struct Min {
  template <class A>
  static __device__ A start() {
    return A(INFINITY);
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return a < b || a != a ? a : b;
  }
};

/// Where results go: to `partial` where that is not null, else to y.
template <class T>
struct Result {
  float* partial;
  T* y;
  template <class A>
  __device__ void set(int64_t i, A value) const {
    if (partial)
      partial[i] = float(value);
    else
      y[i] = T(value);
  }
};

/// acc[j] takes element j of a pack.
template <class Op, class A, class T, int N>
__device__ void join_pack(A (&acc)[N], const Pack<T, N>& pack) {
  float values[N];
  to_floats(pack, values);
#pragma unroll
  for (int j = 0; j < N; ++j) acc[j] = Op::join(acc[j], A(values[j]));
}

/// acc[j] takes element j of the packs at p, p + step, ...: `count` of them, some of which are always on
/// their way.
template <class Op, int N, class A, class T>
__device__ void join_packs(A (&acc)[N], const T* p, int count, int64_t step) {
  constexpr int kBatch = 4;
#pragma unroll 1
  for (; count > 0; count -= kBatch, p += kBatch * step) {
    Pack<T, N> packs[kBatch] = {};
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if (k < count) packs[k] = load<N>(p + k * step);
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if (k < count) join_pack<Op>(acc, packs[k]);
  }
}

template <class Op, class A, int N>
__device__ A join_all(const A (&acc)[N]) {
  A result = acc[0];
#pragma unroll
  for (int j = 1; j < N; ++j) result = Op::join(result, acc[j]);
  return result;
}

// --- along rows: inner is 1 ---

/// Rows of a few elements: 2^group_log threads each, up to a warp.
template <class Op, class T>
__global__ void __launch_bounds__(kBlock)
    short_rows_kernel(int64_t rows, int cols, int group_log, bool wide, const T* x, T* y) {
  wait_for_earlier();
  constexpr int N = kWide<T>;
  const int group = 1 << group_log;
  const int64_t row = int64_t(blockIdx.x) * (kBlock >> group_log) + (int(threadIdx.x) >> group_log);
  const int lane = int(threadIdx.x) & (group - 1);
  float acc[N];
#pragma unroll
  for (int j = 0; j < N; ++j) acc[j] = Op::template start<float>();
  if (row < rows) {
    const T* p = x + row * cols;
    const int units = wide ? cols / N : cols, count = (units - lane + group - 1) >> group_log;
    if (wide) {
      join_packs<Op>(acc, p + lane * N, count, group * N);
    } else {
      float single[1] = {acc[0]};
      join_packs<Op>(single, p + lane, count, group);
      acc[0] = single[0];
    }
  }
  float result = join_all<Op>(acc);
  for (int step = group / 2; step > 0; step /= 2)
    result = Op::join(result, __shfl_xor_sync(0xffffffffu, result, step));
  if (row < rows && lane == 0) y[row] = T(result);
}

/// The block's results joined, for thread 0.
template <class Op>
__device__ float join_block(float value) {
  __shared__ float warps[kBlock / kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2)
    value = Op::join(value, __shfl_xor_sync(0xffffffffu, value, step));
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int w = 1; w < kBlock / kWarp; ++w) value = Op::join(value, warps[w]);
  return value;
}

/// Rows of many elements: one block for each `chunk` of a row. Results in order [chunks, rows].
template <class Op, class T>
__global__ void __launch_bounds__(kBlock) long_rows_kernel(int64_t rows, int64_t cols, int64_t chunk,
                                                           int chunks, const T* x, const Result<T> result) {
  wait_for_earlier();
  constexpr int N = kWide<T>;
  const int64_t row = blockIdx.x / unsigned(chunks), part = blockIdx.x % unsigned(chunks);
  const int64_t begin = part * chunk;
  const int count = int(begin + chunk < cols ? chunk : cols - begin);
  const T* p = x + row * cols + begin;
  const int skew = int(reinterpret_cast<uintptr_t>(p) % 16 / sizeof(T));
  const int head = skew == 0 ? 0 : N - skew < count ? N - skew : count;  // up to the first wide load
  const int body = head + (count - head) / N * N, thread = int(threadIdx.x);
  float acc[N];
#pragma unroll
  for (int j = 0; j < N; ++j) acc[j] = Op::template start<float>();
#pragma unroll 4
  for (int i = head + thread * N; i < body; i += kBlock * N) join_pack<Op>(acc, load<N>(p + i));
  if (thread < head) acc[0] = Op::join(acc[0], float(p[thread]));
  if (body + thread < count) acc[0] = Op::join(acc[0], float(p[body + thread]));
  const float value = join_block<Op>(join_all<Op>(acc));
  if (thread == 0) result.set(part * rows + row, value);
}

// --- across rows ---

/// How blocks share x: [outer, count, inner] in packs of N columns. Thread t of a block works on pack
/// t % width of the block's columns, on row t / width % height of each `height` rows, and on one of `outers`
/// outer indices. width height outers <= kBlock; height is a power of two.
struct Tile {
  Divisor width;
  int height_log = 0, outers = 1;
  Divisor columns, outer_blocks;  // blocks side by side, and one below the other
  int chunks = 1;                 // blocks that share the rows,
  int64_t chunk = 0;              // and rows that one takes
};

/// Results in order [chunks, outer, inner].
template <class Op, class A, int N, class From, class T>
__global__ void __launch_bounds__(kBlock)
    columns_kernel(int64_t outer, int64_t count, int64_t inner, const Tile tile, const From* x,
                   const Result<T> result) {
  wait_for_earlier();
  __shared__ A shared[N][kBlock];
  const int thread = int(threadIdx.x), width = int(tile.width.d), height = 1 << tile.height_log;
  const int line = int(tile.width.divide(threadIdx.x)), at = thread - line * width;
  const int row = line & (height - 1), group = line >> tile.height_log;
  const uint32_t strip = tile.columns.divide(blockIdx.x);
  const int64_t column = (int64_t(blockIdx.x - strip * tile.columns.d) * width + at) * N;
  const uint32_t part = tile.outer_blocks.divide(strip);
  const int64_t o = int64_t(strip - part * tile.outer_blocks.d) * tile.outers + group;
  const bool inside = group < tile.outers && o < outer && column < inner;
  A acc[N];
#pragma unroll
  for (int j = 0; j < N; ++j) acc[j] = Op::template start<A>();
  if (inside) {
    const int64_t begin = int64_t(part) * tile.chunk;
    const int rows = int(begin + tile.chunk < count ? tile.chunk : count - begin);
    const From* p = x + (o * count + begin + row) * inner + column;
    join_packs<Op>(acc, p, (rows - row + height - 1) >> tile.height_log, height * inner);
  }
  if (height > 1) {
#pragma unroll
    for (int j = 0; j < N; ++j) shared[j][thread] = acc[j];
    for (int half = height / 2; half > 0; half /= 2) {
      __syncthreads();
      if (inside && row < half)
#pragma unroll
        for (int j = 0; j < N; ++j)
          shared[j][thread] = Op::join(shared[j][thread], shared[j][thread + half * width]);
    }
#pragma unroll
    for (int j = 0; j < N; ++j) acc[j] = shared[j][thread];
  }
  if (!inside || row != 0) return;
  const int64_t to = (int64_t(part) * outer + o) * inner + column;
#pragma unroll
  for (int j = 0; j < N; ++j) result.set(to + j, acc[j]);
}

// --- the choice of the pieces ---

constexpr int64_t kEnoughBlocks = 512;  // some four for each multiprocessor
constexpr int64_t kMaxLoads = 512;      // a thread's sum of more of them would lose digits

constexpr int64_t quotient_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t between(int64_t low, int64_t high, int64_t x) {
  return x < low ? low : x > high ? high : x;
}
constexpr int log2_up(int64_t x) {
  int log = 0;
  while (int64_t{1} << log < x) ++log;
  return log;
}

/// Pieces of `count` rows, of which `per_load` make one load of all threads of a block, where there are
/// `blocks` of these: enough pieces to fill the device, but none of fewer than `least` loads.
int64_t pieces(int64_t count, int64_t per_load, int64_t blocks, int64_t least) {
  const int64_t loads = between(1, count, quotient_up(count, per_load));
  const int64_t wanted = between(1, quotient_up(loads, least), quotient_up(kEnoughBlocks, blocks));
  return between(wanted, loads, quotient_up(loads, kMaxLoads));
}

/// Some four loads for each thread. Where rows are many, at least `width` packs side by side, so that warps
/// read neighbours.
Tile plan(int64_t outer, int64_t count, int64_t inner, int n, int64_t width) {
  const int64_t packs = quotient_up(inner, n);
  int height_log = std::min(log2_up(quotient_up(count, 4)), log2_up(kBlock));
  while (between(1, width, packs) << height_log > kBlock) --height_log;
  const int64_t columns = quotient_up(packs, kBlock >> height_log), side = quotient_up(packs, columns);
  Tile t;
  t.width = Divisor(uint32_t(side));
  t.height_log = height_log;
  t.outers = int(between(1, outer, kBlock / (side << height_log)));
  t.columns = Divisor(uint32_t(columns));
  t.outer_blocks = Divisor(uint32_t(quotient_up(outer, t.outers)));
  t.chunk = count;
  return t;
}

template <class Op, class A, int N, class From, class T>
void start_columns(int64_t outer, int64_t count, int64_t inner, const Tile& tile, const From* x,
                   float* partial, T* y) {
  launch_early(columns_kernel<Op, A, N, From, T>,
               tile.columns.d * tile.outer_blocks.d * uint32_t(tile.chunks), kBlock, outer, count, inner,
               tile, x, Result<T>{partial, y});
}

/// y from partial results [chunks, n].
template <class Op, class T>
void finish(int64_t chunks, int64_t n, const float* partial, T* y) {
  const Tile tile = plan(1, chunks, n, 1, 8);
  start_columns<Op, double, 1>(1, chunks, n, tile, partial, nullptr, y);
}

template <class Op, class T>
void across_rows(int64_t outer, int64_t count, int64_t inner, const T* x, T* y) {
  const int n = inner % kWide<T> == 0 && aligned({x}) ? kWide<T> : 1;
  Tile tile = plan(outer, count, inner, n, kWarp);
  const int64_t blocks = int64_t(tile.columns.d) * tile.outer_blocks.d;
  tile.chunk = between(1, count, quotient_up(count, pieces(count, 1 << tile.height_log, blocks, 8)));
  tile.chunks = int(between(1, count, quotient_up(count, tile.chunk)));
  float* partial = tile.chunks > 1
                       ? static_cast<float*>(scratch(tile.chunks * outer * inner * int64_t(sizeof(float))))
                       : nullptr;
  if (n == 1)
    start_columns<Op, float, 1>(outer, count, inner, tile, x, partial, y);
  else
    start_columns<Op, float, kWide<T>>(outer, count, inner, tile, x, partial, y);
  if (partial) finish<Op>(tile.chunks, outer * inner, partial, y);
}

template <class Op, class T>
void along_rows(int64_t rows, int64_t cols, const T* x, T* y) {
  constexpr int N = kWide<T>;
  constexpr int64_t kShort = 16 * kWarp;  // loads
  const bool wide = cols % N == 0 && aligned({x});
  const int64_t loads = wide ? cols / N : cols;
  if (loads <= kShort) {
    const int group_log = std::min(log2_up(quotient_up(loads, 4)), log2_up(kWarp));
    return launch_early(short_rows_kernel<Op, T>, blocks_for(rows, kBlock >> group_log), kBlock, rows,
                        int(cols), group_log, wide, x, y);
  }
  const int64_t per_load = kBlock * N;
  int64_t chunk = quotient_up(cols, pieces(cols, per_load, rows, 4));
  chunk = quotient_up(chunk, per_load) * per_load;
  const int64_t chunks = quotient_up(cols, chunk);
  float* partial =
      chunks > 1 ? static_cast<float*>(scratch(chunks * rows * int64_t(sizeof(float)))) : nullptr;
  launch_early(long_rows_kernel<Op, T>, unsigned(rows * chunks), kBlock, rows, cols, chunk, int(chunks), x,
               Result<T>{partial, y});
  if (partial) finish<Op>(chunks, rows, partial, y);
}

template <class Op, class T>
void reduce_by(int64_t outer, int64_t count, int64_t inner, const T* x, T* y) {
  if (outer * inner == 0) return;
  if (inner == 1)
    along_rows<Op>(outer, count, x, y);
  else
    across_rows<Op>(outer, count, inner, x, y);
}

template <class T>
void reduce(Reduce op, int64_t outer, int64_t count, int64_t inner, const T* x, T* y) {
  switch (op) {
    case Reduce::sum:
      return reduce_by<Sum>(outer, count, inner, x, y);
    case Reduce::max:
      return reduce_by<Max>(outer, count, inner, x, y);
    case Reduce::min:
      return reduce_by<Min>(outer, count, inner, x, y);
  }
}

// --- argmax ---

/// `threads` of a block for each row: a warp or all.
template <class T>
__global__ void __launch_bounds__(kBlock)
    argmax_kernel(int64_t rows, int64_t cols, int threads, const T* x, int64_t* y) {
  __shared__ float values[kBlock / kWarp];
  __shared__ long long places[kBlock / kWarp];
  const int thread = int(threadIdx.x), lane = thread & (threads - 1);
  const int64_t row = int64_t(blockIdx.x) * (kBlock / threads) + thread / threads;
  const T* p = x + row * cols;
  Best best;
  if (row < rows) {
#pragma unroll 4
    for (int64_t i = lane; i < cols; i += threads) best.meet(float(p[i]), i);
  }
  best.join_warp();
  if (threads == kBlock) {
    if (thread % kWarp == 0) {
      values[thread / kWarp] = best.value;
      places[thread / kWarp] = best.at;
    }
    __syncthreads();
    if (thread == 0)
      for (int w = 1; w < kBlock / kWarp; ++w) best.meet(values[w], places[w]);
  }
  if (row < rows && lane == 0) y[row] = cols == 0 ? 0 : best.at;
}

template <class T>
void argmax(int64_t rows, int64_t cols, const T* x, int64_t* y) {
  if (rows == 0) return;
  const int threads = cols > 2048 ? kBlock : kWarp;
  launch(argmax_kernel<T>, blocks_for(rows, kBlock / threads), kBlock, rows, cols, threads, x, y);
}

}  // namespace

template <class T>
void set_reduce(KernelTable<T>& table) {
  table.reduce = reduce<T>;
  table.argmax = argmax<T>;
}

template void set_reduce(KernelTable<float>&);
template void set_reduce(KernelTable<bf16>&);
template void set_reduce(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
