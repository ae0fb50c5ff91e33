// Batch norm, with the fixed activations. Reductions give one partial result for each block and channel,
// which the last block to arrive combines in a fixed order.
#include "weft/kernels/cuda/batch_norm.h"

#include <limits>

#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/reduction.h"

namespace weft::kernels::cuda {
namespace {

// --- reductions over the rows ---

/// Mean and sum of squared deviations from it, of n values.
struct Moments {
  /// (a, b) of `na` values becomes that of these and `nb` more (Chan, Golub and LeVeque, "Updating Formulae
  /// and a Pairwise Algorithm for Computing Sample Variances", 1979).
  template <class S, int Q>
  static __device__ void merge(S (&a)[Q], S (&b)[Q], S& na, const S (&a2)[Q], const S (&b2)[Q], S nb) {
    const S n = na + nb, share = n > 0 ? nb / n : S(0), weight = na * share;
#pragma unroll
    for (int j = 0; j < Q; ++j) {
      const S delta = a2[j] - a[j];
      a[j] = delta - delta == 0 ? a[j] + delta * share : a[j] + a2[j];  // an infinite mean stays infinite
      b[j] += b2[j] + delta * delta * weight;
    }
    na = n;
  }
};

/// Two plain sums; n does not matter.
struct Sums {
  template <class S, int Q>
  static __device__ void merge(S (&a)[Q], S (&b)[Q], S&, const S (&a2)[Q], const S (&b2)[Q], S) {
#pragma unroll
    for (int j = 0; j < Q; ++j) {
      a[j] += a2[j];
      b[j] += b2[j];
    }
  }
};

/// Room for the upper half of the threads: two times 8 floats or 4 doubles each, and a count.
constexpr int kMergeRoom = kReduceThreads / 2 * 9;

/// Merges what the block's threads of the same lane have; the first row of threads gets the result.
template <class Merge, class S, int Q>
__device__ void merge_lane_rows(const Tiling& t, int lane, int lane_row, S (&a)[Q], S (&b)[Q], S& n,
                                S* room) {
  const int slots = kReduceThreads / 2;
  for (int active = t.lane_rows; active > 1;) {
    const int half = (active + 1) / 2;
    if (lane_row >= half && lane_row < active) {
      S* to = room + (lane_row - half) * t.lanes + lane;
#pragma unroll
      for (int j = 0; j < Q; ++j) {
        to[2 * j * slots] = a[j];
        to[(2 * j + 1) * slots] = b[j];
      }
      to[2 * Q * slots] = n;
    }
    __syncthreads();
    if (lane_row < active - half) {
      const S* from = room + lane_row * t.lanes + lane;
      S a2[Q], b2[Q];
#pragma unroll
      for (int j = 0; j < Q; ++j) {
        a2[j] = from[2 * j * slots];
        b2[j] = from[(2 * j + 1) * slots];
      }
      Merge::merge(a, b, n, a2, b2, from[2 * Q * slots]);
    }
    __syncthreads();
    active = half;
  }
}

__device__ unsigned arrivals[kMaxSlices];  // one stream, so that no two kernels use it at once

/// Merges the (a, b) of all threads, and calls write(channel, a, b, n) once for each channel, in double.
/// partial: [row_blocks, 2, channels].
template <class Merge, int V, class Write>
__device__ void finish(const Tiling& t, const Place<V>& at, float (&a)[V], float (&b)[V], float n,
                       float* partial, Write&& write) {
  __shared__ double room[kMergeRoom];
  static_assert(sizeof(room) >= sizeof(float) * (kReduceThreads / 2) * (2 * V + 1));
  merge_lane_rows<Merge>(t, at.lane, at.lane_row, a, b, n, reinterpret_cast<float*>(room));
  const bool writes = at.lane_row == 0 && at.active(t);
  if (gridDim.y == 1) {
    if (writes)
#pragma unroll
      for (int j = 0; j < V; ++j) write(at.channel + j, double(a[j]), double(b[j]), double(n));
    return;
  }
  if (writes) {
    float* to = partial + int64_t(blockIdx.y) * 2 * t.channels + at.channel;
    store_floats(to, a);
    store_floats(to + t.channels, b);
  }
  if (!last_to_arrive(&arrivals[blockIdx.x], gridDim.y)) return;
  const int rows_apart = int(gridDim.y) * t.lane_rows, rest = int(t.rows % rows_apart);
  const double whole = double(t.rows / rows_apart * t.lane_rows);  // rows that each block has
  constexpr int Q = V < 4 ? V : 4;
#pragma unroll 1
  for (int q = 0; q < V; q += Q) {
    double da[Q] = {}, db[Q] = {}, dn = 0;
#pragma unroll 4
    for (int block = at.lane_row; block < int(gridDim.y); block += t.lane_rows) {
      const float* from = partial + block * 2 * t.channels + at.channel + q;
      const Pack<float, Q> fa = load<Q>(from), fb = load<Q>(from + t.channels);
      double a2[Q], b2[Q];
#pragma unroll
      for (int j = 0; j < Q; ++j) {
        a2[j] = double(fa.v[j]);
        b2[j] = double(fb.v[j]);
      }
      const int more = rest - block * t.lane_rows;
      Merge::merge(da, db, dn, a2, b2, whole + (more < 0 ? 0 : more < t.lane_rows ? more : t.lane_rows));
    }
    merge_lane_rows<Merge>(t, at.lane, at.lane_row, da, db, dn, room);
    if (writes)
#pragma unroll
      for (int j = 0; j < Q; ++j) write(at.channel + q + j, da[j], db[j], dn);
  }
}

/// Sums of x - shift and its square, where each thread shifts by its own first row: no matter how far the
/// mean is from 0, or a value from the others, little is lost.
template <class T, int V>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    stats_kernel(Tiling t, const T* __restrict__ x, float* partial, float* mean, float* var) {
  const Place<V> at(t);
  float shift[V] = {}, sum[V] = {}, squares[V] = {};
  if (at.count > 0) {
    to_floats(load<V>(x + at.first), shift);
#pragma unroll
    for (int j = 0; j < V; ++j)
      if (shift[j] - shift[j] != 0) shift[j] = 0;  // not finite
  }
  for_rows<4>(at.count, at.first, at.step, [&]<int U>(int64_t offset, Rows<U>) {
    Pack<T, V> rows[U];
#pragma unroll
    for (int u = 0; u < U; ++u) rows[u] = load<V>(x + offset + u * at.step);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      float v[V];
      to_floats(rows[u], v);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float d = v[j] - shift[j];
        sum[j] += d;
        squares[j] = fmaf(d, d, squares[j]);
      }
    }
  });
  const float n = float(at.count);
  if (at.count > 0) {
    const float per_row = 1 / n;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float m = sum[j] * per_row, rest = squares[j] - sum[j] * m;
      sum[j] = shift[j] + m;
      squares[j] = rest < 0 ? 0 : rest;
    }
  }
  finish<Moments>(t, at, sum, squares, n, partial, [&](int64_t c, double m, double deviations, double) {
    const double rows = double(t.rows);
    mean[c] = t.rows > 0 ? float(m) : std::numeric_limits<float>::quiet_NaN();
    var[c] = float(deviations / rows);
  });
}

__global__ void update_kernel(int64_t channels, double eps, double momentum, double unbiased,
                              const float* mean, const float* var, float* running_mean, float* running_var,
                              float* invstd) {
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  const double m = double(mean[c]), v = double(var[c]);
  invstd[c] = float(1 / sqrt(v + eps));
  if (!running_mean) return;
  running_mean[c] = float((1 - momentum) * double(running_mean[c]) + momentum * m);
  running_var[c] = float((1 - momentum) * double(running_var[c]) + momentum * unbiased * v);
}

template <class T, int V, class A, Residual R>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    backward_reduce_kernel(A act, Tiling t, BatchNormArgs<T> a, const T* dy, T* g, float* partial,
                           float* dweight, float* dbias) {
  const Place<V> at(t);
  float sums[kSums<A>][V] = {};
  sum_rows<R>(act, at, a, dy, g, sums);
  finish<Sums>(t, at, sums[1], sums[0], 0.0f, partial, [&](int64_t c, double s, double p, double) {
    dbias[c] = float(s);
    dweight[c] = float(p * double(a.invstd[c]));
  });
}

// --- table entries ---

template <class T>
bool wide(const BatchNormArgs<T>& a, std::initializer_list<const void*> others) {
  return a.channels % kWide<T> == 0 && aligned({a.x, a.mean, a.invstd, a.weight, a.bias, a.residual}) &&
         aligned(others);
}

template <class T, int V, class A, Residual R>
struct Choice {
  A act;
};

/// Which kernels there are of the hot activations on wide rows.
enum class Hot { both, without_residual };

/// Calls f(Choice) with the kernel for `a`; what has none of its own goes to those of any activation. `hot`
/// is whether the case is one of those at all.
template <class T, Hot kernels, class F>
void choose(const BatchNormArgs<T>& a, bool wide, bool hot, F&& f) {
  using enum Residual;
  if (!wide) return f(Choice<T, 1, AnyActivation, perhaps>{{a.activation}});
  if (!hot) return f(Choice<T, kWide<T>, AnyActivation, perhaps>{{a.activation}});
  with_activation(a.activation, [&]<class A>(A act) {
    if constexpr (std::is_same_v<A, AnyActivation>)
      f(Choice<T, kWide<T>, A, perhaps>{act});
    else if constexpr (kernels == Hot::without_residual)
      f(Choice<T, kWide<T>, A, none>{act});
    else if (a.residual)
      f(Choice<T, kWide<T>, A, some>{act});
    else
      f(Choice<T, kWide<T>, A, none>{act});
  });
}

float* partials(const Tiling& t) {
  return static_cast<float*>(scratch(int64_t(sizeof(float)) * 2 * t.row_blocks * t.channels));
}

template <class T>
void batch_norm_stats(int64_t rows, int64_t channels, const T* x, float* mean, float* var) {
  if (channels == 0) return;
  const auto start = [&]<int V>(std::integral_constant<int, V>) {
    const Tiling t = reduce_tiling(rows, channels, V);
    launch(stats_kernel<T, V>, t.grid(), t.block(), t, x, partials(t), mean, var);
  };
  if (channels % kWide<T> == 0 && aligned({x}))
    start(std::integral_constant<int, kWide<T>>{});
  else
    start(std::integral_constant<int, 1>{});
}

void batch_norm_update(int64_t rows, int64_t channels, double eps, double momentum, const float* mean,
                       const float* var, float* running_mean, float* running_var, float* invstd) {
  if (channels == 0) return;
  constexpr int kThreads = 64;
  launch(update_kernel, blocks_for(channels, kThreads), kThreads, channels, eps, momentum,
         double(rows) / double(rows - 1), mean, var, running_mean, running_var, invstd);
}

template <class T>
void batch_norm_forward(const BatchNormArgs<T>& a, T* y) {
  if (a.rows == 0 || a.channels == 0) return;
  if (is_learned(a.activation)) return batch_norm_learned_forward(a, y);
  choose<T, Hot::both>(a, wide(a, {y}), true, [&]<int V, class A, Residual R>(Choice<T, V, A, R> choice) {
    const Tiling t = apply_tiling(a.rows, a.channels, V);
    launch(batch_norm_forward_kernel<T, V, A, R>, t.grid(), t.block(), choice.act, t, a, y);
  });
}

template <class T>
void batch_norm_backward_reduce(const BatchNormArgs<T>& a, const T* dy, T* g, float* dweight, float* dbias,
                                float* const* gradients) {
  if (a.channels == 0) return;
  if (is_learned(a.activation))
    return batch_norm_learned_backward_reduce(a, dy, g, dweight, dbias, gradients);
  // g is the residual's gradient: as a rule there are both or neither.
  const bool hot = (a.residual != nullptr) == (g != nullptr);
  choose<T, Hot::both>(a, wide(a, {dy, g}), hot, [&]<int V, class A, Residual R>(Choice<T, V, A, R> choice) {
    const Tiling t = reduce_tiling(a.rows, a.channels, V);
    launch(backward_reduce_kernel<T, V, A, R>, t.grid(), t.block(), choice.act, t, a, dy, g, partials(t),
           dweight, dbias);
  });
}

template <class T>
void batch_norm_backward_input(const BatchNormArgs<T>& a, const T* dy, const float* dweight,
                               const float* dbias, bool training, T* dx) {
  if (a.rows == 0 || a.channels == 0) return;
  if (is_learned(a.activation)) return batch_norm_learned_backward_input(a, dy, dweight, dbias, training, dx);
  const bool all_wide = wide(a, {dy, dx}) && (!training || aligned({dweight, dbias}));
  // Where there is a residual, the reduction has written g as a rule, and that stands for dy here.
  choose<T, Hot::without_residual>(
      a, all_wide, !a.residual, [&]<int V, class A, Residual R>(Choice<T, V, A, R> choice) {
        const Tiling t = apply_tiling(a.rows, a.channels, V);
        launch(batch_norm_input_kernel<T, V, A, R>, t.grid(), t.block(), choice.act, t, a, dy, dweight, dbias,
               training, float(1 / double(a.rows)), dx);
      });
}

}  // namespace

template <class T>
void set_batch_norm(KernelTable<T>& table) {
  table.batch_norm_stats = batch_norm_stats<T>;
  table.batch_norm_update = batch_norm_update;
  table.batch_norm_forward = batch_norm_forward<T>;
  table.batch_norm_backward_reduce = batch_norm_backward_reduce<T>;
  table.batch_norm_backward_input = batch_norm_backward_input<T>;
}

template void set_batch_norm(KernelTable<float>&);
template void set_batch_norm(KernelTable<bf16>&);
template void set_batch_norm(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
