// Elementwise kernels: f on each element of some arrays, 16 bytes of each array at a time.
#pragma once

#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {

constexpr int kMapBlock = 256;

/// Arrays of n elements that a map reads and writes; an output may be an input.
template <int In, int Out, class T>
struct MapArrays {
  const T* in[In];
  T* out[Out];
};

/// Elements i to i + N of a tile that begins at element `tile` of all arrays.
template <int N, int In, int Out, class T, class F>
__device__ void map_pack(int64_t tile, int i, const Pack<T, N> (&in)[In], const MapArrays<In, Out, T>& a,
                         const F& f) {
  float x[In][N], y[Out][N];
#pragma unroll
  for (int k = 0; k < In; ++k) to_floats(in[k], x[k]);
  f(tile + i, x, y);
#pragma unroll
  for (int k = 0; k < Out; ++k) store(a.out[k] + tile + i, from_floats<T>(y[k]));
}

/// Packs of each array that a thread has in flight: F::kPacks, where it has one.
template <int In, class F>
constexpr int map_packs() {
  if constexpr (requires { F::kPacks; })
    return F::kPacks;
  else
    return In > 2 ? 1 : 2;
}
template <int In, class F>
constexpr int kMapPacks = map_packs<In, F>();

template <int In, int Out, class T, class F>
__global__ void __launch_bounds__(kMapBlock)
    map_kernel(int64_t n, bool wide, const MapArrays<In, Out, T> a, const F f) {
  wait_for_earlier();
  constexpr int N = kWide<T>, kPacks = kMapPacks<In, F>, kTile = kMapBlock * N * kPacks;
  const int64_t tile = int64_t(blockIdx.x) * kTile;
  const int count = n - tile < kTile ? int(n - tile) : kTile;
  // Where packs go, all of them but what is left of the last one.
  const int packed = wide ? count / N * N : 0;
  Pack<T, N> in[kPacks][In] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int i = (p * kMapBlock + int(threadIdx.x)) * N;
    if (i >= packed) continue;
#pragma unroll
    for (int k = 0; k < In; ++k) in[p][k] = load<N>(a.in[k] + tile + i);
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int i = (p * kMapBlock + int(threadIdx.x)) * N;
    if (i < packed) map_pack<N>(tile, i, in[p], a, f);
  }
#pragma unroll 1
  for (int i = packed + int(threadIdx.x); i < count; i += kMapBlock) {
    Pack<T, 1> one[In];
#pragma unroll
    for (int k = 0; k < In; ++k) one[k] = load<1>(a.in[k] + tile + i);
    map_pack<1>(tile, i, one, a, f);
  }
}

/// Calls f(i, x, y) for elements i, i + 1, ... of the arrays, widened to float: it sets y[out][..] from
/// x[in][..]. F: template <int N> void operator()(int64_t i, const float (&x)[In][N], float (&y)[Out][N])
/// const, with i a multiple of N, and N 1, 4 or 8.
template <int In, int Out, class T, class F>
void map(int64_t n, const MapArrays<In, Out, T>& a, const F& f) {
  if (n <= 0) return;
  bool wide = true;
  for (const T* p : a.in) wide = wide && aligned({p});
  for (const T* p : a.out) wide = wide && aligned({p});
  launch_early(map_kernel<In, Out, T, F>, blocks_for(n, kMapBlock * kWide<T> * kMapPacks<In, F>), kMapBlock,
               n, wide, a, f);
}

}  // namespace weft::kernels::cuda
