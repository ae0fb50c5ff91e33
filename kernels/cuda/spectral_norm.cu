// The spectral norm of a weight. A step of the power iteration is two products of the matrix and a vector. A
// product leaves its sums as they are: each block of the next kernel finds their length for itself, which for
// vectors is less work than meeting the other blocks. So a forward with one step is three launches, and a
// backward two.
#include <algorithm>
#include <utility>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/team.h"

namespace weft::kernels::cuda {
namespace {

constexpr int64_t kSlice = 2048;  // least elements of a sum that is cut
constexpr int kMaxSlices = 64;

/// The sum over the block, the same bits in all its threads.
__device__ double block_sum(double v) {
  __shared__ double room[kWarps];
  v = warp_sum(v);
  __syncthreads();  // all have read what was here before
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = v;
  __syncthreads();
  double all = 0;
  for (int warp = 0; warp < kWarps; ++warp) all += room[warp];
  return all;
}

/// A product of the matrix and a vector, cut into slices that are to be added up.
struct Sums {
  const float* slice;
  int slices;
  int64_t n;

  __device__ float operator[](int64_t i) const {
    float sum = slice[i];
#pragma unroll 1
    for (int s = 1; s < slices; ++s) sum += slice[int64_t(s) * n + i];
    return sum;
  }
};

/// left or right: a vector of length 1, or sums that are to become one.
template <class T>
struct Unit {
  T *unit, *now;
  Sums sums;
  bool fresh;  // what `sums` becomes is written to `unit`
  float eps;

  /// What the sums are divided by, the same bits in all threads of all blocks.
  __device__ float divisor() const {
    if (!fresh) return 1;
    double squares = 0;
    for (int64_t i = threadIdx.x; i < sums.n; i += kThreads) {
      const double v = double(sums[i]);
      squares += v * v;
    }
    const float norm = float(sqrt(block_sum(squares)));
    return norm < eps ? eps : norm;
  }
  __device__ T at(int64_t i, float divisor) const { return fresh ? T(sums[i] / divisor) : unit[i]; }
  /// Writes it down, in one block. The others do not read what this writes.
  __device__ void keep(float divisor) const {
    if (blockIdx.x + blockIdx.y > 0) return;
    for (int64_t i = threadIdx.x; i < sums.n; i += kThreads) {
      const T v = at(i, divisor);
      if (fresh) unit[i] = v;
      now[i] = v;
    }
  }
};

/// The part [begin, end) of n elements that is for slice blockIdx.y, from a multiple of V on.
template <int V>
__device__ inline void cut(int64_t n, int64_t& begin, int64_t& end) {
  const int64_t packs = (n + V - 1) / V, each = (packs + gridDim.y - 1) / gridDim.y * V;
  begin = blockIdx.y * each;
  end = begin + each < n ? begin + each : n;
}

constexpr int kTile = 2048;

/// Calls f(first, count, tile) for tiles of the vector: its elements [first, first + count) lie in tile.
template <class T, int V, class F>
__device__ inline void for_tiles(const Unit<T>& x, F&& f) {
  alignas(16) __shared__ float tile[kTile];
  const float divisor = x.divisor();
  x.keep(divisor);
  int64_t begin, end;
  cut<V>(x.sums.n, begin, end);
  for (int64_t first = begin; first < end; first += kTile) {
    const int count = end - first < kTile ? int(end - first) : kTile;
    __syncthreads();  // all have read what was here before
    for (int i = int(threadIdx.x); i < count; i += kThreads) tile[i] = float(x.at(first + i, divisor));
    __syncthreads();
    f(first, count, tile);
  }
}

/// w right; a row for each team.
template <class T, int V, bool kBlock>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(int64_t rows, int64_t cols, const T* w, const Unit<T> x, float* sums) {
  wait_for_earlier();
  using TeamT = Team<kBlock>;
  const int64_t r = TeamT::first_row();
  float sum = 0;
  for_tiles<T, V>(x, [&](int64_t first, int count, const float* tile) {
    if (r >= rows) return;
    const T* row = w + r * cols + first;
#pragma unroll 4
    for (int c = TeamT::thread() * V; c < count; c += TeamT::size * V) {
      float v[V], factor[V];
      to_floats(load<V>(row + c), v);
      load_floats(tile + c, factor);
#pragma unroll
      for (int j = 0; j < V; ++j) sum = fmaf(v[j], factor[j], sum);
    }
  });
  sum = TeamT::sum(sum);
  if (r < rows && TeamT::thread() == 0) sums[blockIdx.y * rows + r] = sum;
}

/// w' left. A block has some columns, 32 bytes in float, and its threads share the rows.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    columns_kernel(int64_t cols, const T* w, const Unit<T> x, float* sums) {
  wait_for_earlier();
  constexpr int kLanes = V == 1 ? 8 : 2, kApart = kThreads / kLanes;
  __shared__ float room[kWarps][kLanes * V];
  const int lane = int(threadIdx.x) % kLanes, warp = int(threadIdx.x) / kWarp;
  const int64_t c = (int64_t(blockIdx.x) * kLanes + lane) * V;
  float sum[V] = {};
  for_tiles<T, 1>(x, [&](int64_t first, int count, const float* tile) {
    if (c >= cols) return;
    const T* column = w + first * cols + c;
#pragma unroll 4
    for (int r = int(threadIdx.x) / kLanes; r < count; r += kApart) {
      float v[V];
      to_floats(load<V>(column + r * cols), v);
#pragma unroll
      for (int j = 0; j < V; ++j) sum[j] = fmaf(v[j], tile[r], sum[j]);
    }
  });
#pragma unroll
  for (int j = 0; j < V; ++j)
    for (int distance = kWarp / 2; distance >= kLanes; distance /= 2)
      sum[j] += __shfl_xor_sync(kAllLanes, sum[j], distance);
  if (int(threadIdx.x) % kWarp < kLanes) {
#pragma unroll
    for (int j = 0; j < V; ++j) room[warp][lane * V + j] = sum[j];
  }
  __syncthreads();
  const int64_t column = int64_t(blockIdx.x) * kLanes * V + threadIdx.x;
  if (int(threadIdx.x) >= kLanes * V || column >= cols) return;
  double all = 0;
  for (int k = 0; k < kWarps; ++k) all += double(room[k][threadIdx.x]);
  sums[blockIdx.y * cols + column] = float(all);
}

/// y = w / sigma, sigma = x . product.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    divide_kernel(int64_t n, const T* w, const Unit<T> x, float* sigma, T* __restrict__ y) {
  wait_for_earlier();
  const float divisor = x.divisor();
  x.keep(divisor);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < x.sums.n; i += kThreads)
    sum += double(float(x.at(i, divisor))) * double(x.sums[i]);
  const float s = float(block_sum(sum));
  if (blockIdx.x == 0 && threadIdx.x == 0) *sigma = s;
  for (int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * V; i < n;
       i += int64_t(gridDim.x) * kThreads * V) {
    float v[V];
    to_floats(load<V>(w + i), v);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] /= s;
    store(y + i, from_floats<T>(v));
  }
}

/// partial[block]: of sum(dy y).
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    product_kernel(int64_t n, const T* y, const T* dy, float* partial) {
  wait_for_earlier();
  float sum = 0;
#pragma unroll 2
  for (int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * V; i < n;
       i += int64_t(gridDim.x) * kThreads * V) {
    float a[V], b[V];
    to_floats(load<V>(y + i), a);
    to_floats(load<V>(dy + i), b);
#pragma unroll
    for (int j = 0; j < V; ++j) sum = fmaf(a[j], b[j], sum);
  }
  const double all = block_sum(double(sum));
  if (threadIdx.x == 0) partial[blockIdx.x] = float(all);
}

/// dw = (dy - left right' sum(dy y)) / sigma; `blocks` parts of the sum.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(int64_t n, int64_t cols, const T* left, const T* right, const float* sigma, int blocks,
                    const float* partial, const T* dy, T* dw) {
  wait_for_earlier();
  const int64_t first = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * V;
  double sum = 0;
  for (int i = int(threadIdx.x); i < blocks; i += kThreads) sum += double(partial[i]);
  const float product = float(block_sum(sum)), s = *sigma;
  for (int64_t i = first; i < n; i += int64_t(gridDim.x) * kThreads * V) {
    const int64_t r = i / cols, c = i - r * cols;  // V divides cols
    const float scale = product * float(left[r]);
    float v[V], b[V];
    to_floats(load<V>(dy + i), v);
    to_floats(load<V>(right + c), b);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = fmaf(-scale, b[j], v[j]) / s;
    store(dw + i, from_floats<T>(v));
  }
}

/// Calls f(integral_constant V) for the widest loads that rows of `cols` and the pointers allow.
template <class T, class F>
void with_width(int64_t cols, std::initializer_list<const void*> pointers, F&& f) {
  if (cols % kWide<T> == 0 && aligned(pointers))
    f(std::integral_constant<int, kWide<T>>{});
  else
    f(std::integral_constant<int, 1>{});
}

/// Slices for sums of n elements that `blocks` blocks make: more where these leave the device empty.
int slices_for(int64_t n, int64_t blocks) {
  const int64_t room = 2 * int64_t(multiprocessors()) / std::max<int64_t>(1, blocks);
  return int(std::max<int64_t>(1, std::min<int64_t>({n / kSlice, room, kMaxSlices})));
}

template <class T>
void spectral_norm_forward(const SpectralNormArgs<T>& a, T* left, T* right, T* left_now, T* right_now,
                           float* sigma, T* y) {
  const int64_t n = a.rows * a.cols;
  if (n == 0) return;
  with_width<T>(a.cols, {a.w, y}, [&]<int V>(std::integral_constant<int, V>) {
    constexpr int64_t kColumns = (V == 1 ? 8 : 2) * V;
    const bool long_rows = a.cols >= kLongRow;
    const unsigned row_blocks = blocks_for(a.rows, long_rows ? 1 : kWarps),
                   column_blocks = blocks_for(a.cols, kColumns);
    const int row_slices = slices_for(a.cols, row_blocks), column_slices = slices_for(a.rows, column_blocks);
    auto* const by_row =
        static_cast<float*>(scratch(int64_t(sizeof(float)) * (a.rows * row_slices + a.cols * column_slices)));
    float* const by_column = by_row + a.rows * row_slices;

    const float eps = float(a.eps);
    Unit<T> l{left, left_now, {by_row, row_slices, a.rows}, false, eps},
        r{right, right_now, {by_column, column_slices, a.cols}, false, eps};
    const auto multiply_right = [&] {
      launch_early(long_rows ? rows_kernel<T, V, true> : rows_kernel<T, V, false>,
                   dim3(row_blocks, unsigned(row_slices)), dim3(kThreads), a.rows, a.cols, a.w, r, by_row);
    };
    const auto multiply_left = [&] {
      launch_early(columns_kernel<T, V>, dim3(column_blocks, unsigned(column_slices)), dim3(kThreads), a.cols,
                   a.w, l, by_column);
    };
    for (int half = 0; half < 2 * a.iterations; ++half) {
      const bool make_left = (half % 2 == 0) == a.left_first;
      make_left ? multiply_right() : multiply_left();
      (make_left ? l : r).fresh = true;
    }
    if (a.iterations == 0) multiply_right();
    // The last product is of one vector, and sigma that of it and the other.
    const Unit<T>& last = a.iterations > 0 && a.left_first ? r : l;
    launch_early(divide_kernel<T, V>, blocks_for(n, kThreads * V * 2, 4 * int64_t(multiprocessors())),
                 kThreads, n, a.w, last, sigma, y);
  });
}

template <class T>
void spectral_norm_backward(int64_t rows, int64_t cols, const T* left, const T* right, const float* sigma,
                            const T* y, const T* dy, T* dw) {
  const int64_t n = rows * cols;
  if (n == 0) return;
  with_width<T>(cols, {right, y, dy, dw}, [&]<int V>(std::integral_constant<int, V>) {
    const unsigned parts = blocks_for(n, kThreads * V * 2, 2 * int64_t(multiprocessors()));
    auto* const partial = static_cast<float*>(scratch(int64_t(sizeof(float)) * parts));
    launch_early(product_kernel<T, V>, parts, kThreads, n, y, dy, partial);
    launch_early(backward_kernel<T, V>, blocks_for(n, kThreads * V * 2, 8 * int64_t(multiprocessors())),
                 kThreads, n, cols, left, right, sigma, int(parts), partial, dy, dw);
  });
}

}  // namespace

template <class T>
void set_spectral_norm(KernelTable<T>& table) {
  table.spectral_norm_forward = spectral_norm_forward<T>;
  table.spectral_norm_backward = spectral_norm_backward<T>;
}

template void set_spectral_norm(KernelTable<float>&);
template void set_spectral_norm(KernelTable<bf16>&);
template void set_spectral_norm(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
