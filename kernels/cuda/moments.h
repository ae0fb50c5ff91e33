// What batch norm's reductions add up for a channel, and how threads join it.
#pragma once

#include "weft/kernels/cuda/channels.h"
#include "weft/kernels/cuda/reduction.h"

namespace weft::kernels::cuda {

/// (a, b) are the mean of n values and their squared deviations from it.
struct Moments {
  /// (a, b) becomes that of these values and `nb` more (Chan, Golub and LeVeque, "Updating Formulae and a
  /// Pairwise Algorithm for Computing Sample Variances", 1979).
  template <int V>
  static __device__ void merge(float (&a)[V], float (&b)[V], float& na, const float (&a2)[V],
                               const float (&b2)[V], float nb) {
    const float n = na + nb, share = n > 0 ? nb / n : 0.0f, weight = na * share;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float delta = a2[j] - a[j];
      a[j] = delta - delta == 0 ? a[j] + delta * share : a[j] + a2[j];  // an infinite mean stays infinite
      b[j] += b2[j] + delta * delta * weight;
    }
    na = n;
  }
  /// Of many at once: sums of n (a - center) and of b + n (a - center)^2, where center is one of the means.
  static __device__ void add(double (&sums)[2], double center, double n, float a, float b) {
    const double d = double(a) - center;
    sums[0] = fma(n, d, sums[0]);
    sums[1] += fma(n * d, d, double(b));
  }
  /// per_row: 1 / n of all.
  static __device__ void finish(double (&sums)[2], double center, double per_row) {
    const double d = sums[0] * per_row, rest = sums[1] - sums[0] * d;
    sums[0] = center + d;
    sums[1] = rest < 0 ? 0 : rest;
  }
};

/// Two plain sums; n does not matter.
struct Sums {
  template <int V>
  static __device__ void merge(float (&a)[V], float (&b)[V], float&, const float (&a2)[V],
                               const float (&b2)[V], float) {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      a[j] += a2[j];
      b[j] += b2[j];
    }
  }
  static __device__ void add(double (&sums)[2], double, double, float a, float b) {
    sums[0] += double(a);
    sums[1] += double(b);
  }
  static __device__ void finish(double (&)[2], double, double) {}
};

/// Merges what the threads of a warp have for the same channels.
template <class Merge, int V>
__device__ void merge_warp(int lanes, float (&a)[V], float (&b)[V], float& n) {
  for (int distance = lanes; distance < kWarp; distance *= 2) {
    float a2[V], b2[V];
#pragma unroll
    for (int j = 0; j < V; ++j) {
      a2[j] = __shfl_xor_sync(kAllLanes, a[j], distance);
      b2[j] = __shfl_xor_sync(kAllLanes, b[j], distance);
    }
    Merge::merge(a, b, n, a2, b2, __shfl_xor_sync(kAllLanes, n, distance));
  }
}

/// What the warps of a block of so many threads have.
template <int kThreads>
struct WarpRoom {
  static constexpr int kWarps = kThreads / kWarp;
  float a[kWarps][kMaxColumns], b[kWarps][kMaxColumns], n[kWarps][kWarp];
};
/// A value that others can be counted from.
__device__ inline float finite_or_0(float v) { return v - v == 0 ? v : 0; }
__device__ inline double center_of(float mean) { return double(finite_or_0(mean)); }

/// use(i, load(i)) for i = first, first + step, ... below `end`, with N of them on their way. A loop that the
/// compiler unrolls divides first, to know how often it runs.
template <int N, class Load, class Use>
__device__ void for_every(int first, int end, int step, Load&& load, Use&& use) {
#pragma unroll 1
  for (; first < end; first += N * step) {
    decltype(load(0)) loaded[N];
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (first + k * step < end) loaded[k] = load(first + k * step);
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (first + k * step < end) use(first + k * step, loaded[k]);
  }
}

/// Adds to a thread's sums those of the threads `columns` apart behind it, below `end`, N at a time.
template <int N, int kThreads>
__device__ void add_groups(const double (&room)[2][kThreads], int columns, int end, double (&sums)[2]) {
  for_every<N>(
      int(threadIdx.x) + columns, end, columns,
      [&](int other) {
        return Pack<double, 2>{room[0][other], room[1][other]};
      },
      [&](int, const Pack<double, 2>& other) {
        sums[0] += other.v[0];
        sums[1] += other.v[1];
      });
}

/// Merges the (a, b) of a block's threads: a thread below t.lanes * V has those of the channel of that number
/// then.
template <class Merge, int V, int kThreads>
__device__ void merge_block(const Tiling& t, const Place<V>& at, float (&a)[V], float (&b)[V], float n,
                            WarpRoom<kThreads>& room, double (&sums)[2]) {
  const int column = int(threadIdx.x), warp = column / kWarp;
  merge_warp<Merge>(t.lanes, a, b, n);
  if (column % kWarp < t.lanes) {
    store_floats(&room.a[warp][at.lane * V], a);
    store_floats(&room.b[warp][at.lane * V], b);
    room.n[warp][at.lane] = n;
  }
  __syncthreads();
  if (column >= t.lanes * V) return;
  const double center = center_of(room.a[0][column]);
  double count = 0;
  sums[0] = sums[1] = 0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) {
    const double of_warp = double(room.n[w][column / V]);
    Merge::add(sums, center, of_warp, room.a[w][column], room.b[w][column]);
    count += of_warp;
  }
  Merge::finish(sums, center, 1 / count);
}

/// Rows that belong to each of the blocks that share those of a slice.
struct RowsOfBlocks {
  int whole, rest, lane_rows;

  __device__ explicit RowsOfBlocks(const Tiling& t)
      : whole(t.whole * t.lane_rows), rest(t.rest), lane_rows(t.lane_rows) {}
  __device__ int operator[](int block) const {
    const int more = rest - block * lane_rows;
    return whole + (more < 0 ? 0 : more < lane_rows ? more : lane_rows);
  }
};

/// What follows from mean and variance of a channel: 1 / sqrt(var + eps), and the running values.
struct Update {
  double eps = 0, momentum = 0, unbiased = 0;
  float *running_mean = nullptr, *running_var = nullptr, *invstd = nullptr;

  /// The running values of a channel.
  struct Running {
    float mean, var;
  };
  __device__ Running running(int64_t c) const {
    return running_mean ? Running{running_mean[c], running_var[c]} : Running{};
  }
  __device__ float invstd_of(float var) const {
    const double to_root = double(var) + eps;
#ifdef __CUDA_ARCH__
    return float(rsqrt(to_root));  // which takes a fourth of the instructions
#else
    return float(1 / sqrt(to_root));
#endif
  }
  __device__ void operator()(int64_t c, float mean, float var, Running old) const {
    const double m = double(mean), v = double(var);
    invstd[c] = invstd_of(var);
    if (!running_mean) return;
    running_mean[c] = float((1 - momentum) * double(old.mean) + momentum * m);
    running_var[c] = float((1 - momentum) * double(old.var) + momentum * unbiased * v);
  }
};

}  // namespace weft::kernels::cuda
