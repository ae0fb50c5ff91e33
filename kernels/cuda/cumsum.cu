// Sums up to each element of a column.
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/team.h"

namespace weft::kernels::cuda {
namespace {

/// The sum over the threads of the team that come before this one, and over all of them.
template <bool kBlock>
__device__ float sum_before(float v, float& all) {
  const int lane = int(threadIdx.x) % kWarp;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const float other = __shfl_up_sync(kAllLanes, v, unsigned(distance));
    if (lane >= distance) v += other;
  }
  float before = __shfl_up_sync(kAllLanes, v, 1);
  if (lane == 0) before = 0;
  all = __shfl_sync(kAllLanes, v, kWarp - 1);
  if constexpr (kBlock) {
    __shared__ float room[kWarps];
    __syncthreads();  // all have read what was here before
    if (lane == 0) room[threadIdx.x / kWarp] = all;
    __syncthreads();
    float warps = 0;
    for (int warp = 0; warp < kWarps; ++warp) {
      if (warp == int(threadIdx.x) / kWarp) before += warps;
      warps += room[warp];
    }
    all = warps;
  }
  return before;
}

template <int V>
__device__ void turn_around(bool reverse, float (&v)[V]) {
#pragma unroll
  for (int j = 0; j < V / 2; ++j) {
    const float a = v[j], b = v[V - 1 - j];
    v[j] = reverse ? b : a;
    v[V - 1 - j] = reverse ? a : b;
  }
}

// x and y may be one array: no thread reads an element that another one has written.

/// A team for each column; V > 1 only where inner is 1.
template <class T, int V, bool kBlock>
__global__ void __launch_bounds__(kThreads)
    team_kernel(int64_t columns, int64_t size, int64_t inner, bool reverse, const T* x, T* y) {
  wait_for_earlier();
  using TeamT = Team<kBlock>;
  for (int64_t column = TeamT::first_row(); column < columns; column += TeamT::rows_apart()) {
    const int64_t o = column / inner, start = o * size * inner + (column - o * inner);
    double before = 0;  // the sum of all earlier rounds of the team, which may be many
    for (int64_t first = 0; first < size; first += TeamT::size * V) {
      const int64_t i = first + TeamT::thread() * V, at = start + (reverse ? size - V - i : i) * inner;
      float v[V] = {};
      if (i < size) to_floats(load<V>(x + at), v);
      turn_around(reverse, v);
#pragma unroll
      for (int j = 1; j < V; ++j) v[j] += v[j - 1];
      float all;
      const float offset = float(before + double(sum_before<kBlock>(v[V - 1], all)));
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] += offset;
      turn_around(reverse, v);
      if (i < size) store(y + at, from_floats<T>(v));
      before += double(all);
    }
  }
}

/// A thread for each column.
template <class T>
__global__ void __launch_bounds__(kThreads)
    thread_kernel(int64_t columns, int64_t size, int64_t inner, bool reverse, const T* x, T* y) {
  wait_for_earlier();
  constexpr int kAhead = 8;  // elements on their way
  const int64_t column = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= columns) return;
  const int64_t o = column / inner, start = o * size * inner + (column - o * inner);
  const int64_t step = reverse ? -inner : inner;
  int64_t at = start + (reverse ? (size - 1) * inner : 0);
  double sum = 0;  // of thousands one by one
  for (int64_t i = 0; i < size; i += kAhead, at += kAhead * step) {
    T v[kAhead] = {};
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (i + k < size) v[k] = x[at + k * step];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      sum += double(float(v[k]));
      if (i + k < size) y[at + k * step] = T(float(sum));
    }
  }
}

template <class T>
void cumsum(int64_t outer, int64_t size, int64_t inner, bool reverse, const T* x, T* y) {
  constexpr int64_t kMany = 8192, kShort = 64;  // what threads can do by themselves
  const int64_t columns = outer * inner;
  if (columns == 0 || size == 0) return;
  if (inner > 1 && (columns >= kMany || size <= kShort))
    return launch_early(thread_kernel<T>, blocks_for(columns, kThreads), kThreads, columns, size, inner,
                        reverse, x, y);
  choose<T>(columns, size, inner == 1 ? size : 1, 8, {x, y},
            [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
              launch_early(team_kernel<T, V, kBlock>, blocks, kThreads, columns, size, inner, reverse, x, y);
            });
}

}  // namespace

template <class T>
void set_cumsum(KernelTable<T>& table) {
  table.cumsum = cumsum<T>;
}

template void set_cumsum(KernelTable<float>&);
template void set_cumsum(KernelTable<bf16>&);
template void set_cumsum(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
