// Batch norm, with the fixed activations. Reductions give one partial result for each block and channel,
// which the last block to arrive combines in a fixed order.
#include "weft/kernels/cuda/batch_norm.h"

#include <limits>

#include "weft/kernels/cuda/batch_norm_avg_pool.h"
#include "weft/kernels/cuda/batch_norm_once.h"
#include "weft/kernels/cuda/batch_norm_pair.h"
#include "weft/kernels/cuda/batch_norm_pool.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/moments.h"
#include "weft/kernels/cuda/reduction.h"

namespace weft::kernels::cuda {
namespace {

// --- reductions over the rows ---

__device__ unsigned arrivals[kMaxSlices];  // one stream, so that no two kernels use it at once

/// Merges the (a, b) of all threads, and calls write(channel, a, b, read(channel)) once for each channel,
/// with a and b in double. partial: [row_blocks, 2, channels].
template <class Merge, int V, class Read, class Write>
__device__ void finish(const Tiling& t, const Place<V>& at, float (&a)[V], float (&b)[V], float n,
                       float* partial, Read&& read, Write&& write) {
  // Of each warp; then of each group of threads that add up what the blocks have.
  alignas(16) __shared__ union {
    WarpRoom<kReduceThreads> warps;
    double groups[2][kReduceThreads];
  } room;
  const int thread = int(threadIdx.x), columns = t.lanes * V, group = t.over_lanes(thread / V),
            column = thread - group * columns, channel = int(blockIdx.x) * columns + column;
  const bool writes = thread < columns && channel < t.channels;
  decltype(read(channel)) others{};
  if (writes) others = read(channel);  // while there is still time to wait for it
  double sums[2] = {};
  merge_block<Merge>(t, at, a, b, n, room.warps, sums);
  if (writes) {
    if (gridDim.y == 1) {
      write(channel, sums[0], sums[1], others);
    } else {
      float* to = partial + int64_t(blockIdx.y) * 2 * t.channels + channel;
      to[0] = float(sums[0]);
      to[t.channels] = float(sums[1]);
    }
  }
  if (gridDim.y == 1 || !last_to_arrive(&arrivals[blockIdx.x], gridDim.y)) return;
  const RowsOfBlocks rows(t);
  const int groups = t.lane_rows / V;
  double center = 0;
  sums[0] = sums[1] = 0;
  if (channel < t.channels) {
    center = center_of(partial[channel]);
    const float* const from = partial + channel;
    for_every<8>(
        group, int(gridDim.y), groups,
        [&](int block) {
          const float* const of_block = from + int64_t(block) * 2 * t.channels;
          return Pack<float, 2>{of_block[0], of_block[t.channels]};
        },
        [&](int block, const Pack<float, 2>& p) {
          Merge::add(sums, center, double(rows[block]), p.v[0], p.v[1]);
        });
  }
  room.groups[0][thread] = sums[0];
  room.groups[1][thread] = sums[1];
  __syncthreads();
  if (!writes) return;
  add_groups<8>(room.groups, columns, kReduceThreads, sums);
  Merge::finish(sums, center, t.per_row);
  write(channel, sums[0], sums[1], others);
}

/// Sums of x - shift and its square, where each thread shifts by its own first row: no matter how far the
/// mean is from 0, or a value from the others, little is lost.
template <class T, int V>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    stats_kernel(Tiling t, const T* x, float* partial, float* mean, float* var, Update update) {
  const Place<V> at(t);
  wait_for_earlier();
  float shift[V] = {}, sum[V] = {}, squares[V] = {};
  if (at.count > 0) {
    to_floats(load<V>(x + at.first), shift);
#pragma unroll
    for (int j = 0; j < V; ++j) shift[j] = finite_or_0(shift[j]);
  }
  constexpr int kAhead = 8;
  Held<T, V> rows[kAhead];
  for_rows_ahead<kAhead>(
      at.count, at.first, at.step, [&](int u, int64_t offset) { rows[u] = Held<T, V>::from(x + offset); },
      [&](int u, int64_t) {
        float v[V];
        rows[u].get(v);
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const float d = v[j] - shift[j];
          sum[j] += d;
          squares[j] = fmaf(d, d, squares[j]);
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
  const auto running = [&](int64_t c) { return update.running(c); };
  finish<Moments>(t, at, sum, squares, n, partial, running,
                  [&](int64_t c, double m, double deviations, const Update::Running& old) {
                    const float mu = t.rows > 0 ? float(m) : std::numeric_limits<float>::quiet_NaN(),
                                v = float(deviations * t.per_row);
                    mean[c] = mu;
                    var[c] = v;
                    if (update.invstd) update(c, mu, v, old);
                  });
}

__global__ void update_kernel(int64_t channels, const float* mean, const float* var, Update update) {
  wait_for_earlier();
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c < channels) update(c, mean[c], var[c], update.running(c));
}

template <class T, int V, class A, Residual R>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    backward_reduce_kernel(A act, Tiling t, BatchNormArgs<T> a, const T* dy, T* g, float* partial,
                           float* dweight, float* dbias) {
  const Place<V> at(t);
  wait_for_earlier();
  float sums[kSums<A>][V] = {};
  sum_rows<R>(act, at, a, dy, g, sums);
  finish<Sums>(
      t, at, sums[1], sums[0], 0.0f, partial, [&](int64_t c) { return a.invstd[c]; },
      [&](int64_t c, double s, double p, float invstd) {
        dbias[c] = float(s);
        dweight[c] = float(p * double(invstd));
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
void stats(int64_t rows, int64_t channels, const T* x, float* mean, float* var, const Update& update) {
  if (channels == 0) return;
  const auto start = [&]<int V>(std::integral_constant<int, V>) {
    const Tiling t = reduce_tiling(rows, channels, V, 1, 4096);
    launch_early(stats_kernel<T, V>, t.grid(), t.block(), t, x, partials(t), mean, var, update);
  };
  if (channels % kWide<T> == 0 && aligned({x}))
    start(std::integral_constant<int, kWide<T>>{});
  else
    start(std::integral_constant<int, 1>{});
}

template <class T>
void batch_norm_stats(int64_t rows, int64_t channels, const T* x, float* mean, float* var) {
  stats(rows, channels, x, mean, var, {});
}

Update update_of(int64_t rows, double eps, double momentum, float* running_mean, float* running_var,
                 float* invstd) {
  return {eps, momentum, double(rows) / double(rows - 1), running_mean, running_var, invstd};
}

void batch_norm_update(int64_t rows, int64_t channels, double eps, double momentum, const float* mean,
                       const float* var, float* running_mean, float* running_var, float* invstd) {
  if (channels == 0) return;
  constexpr int kThreads = 64;
  launch_early(update_kernel, blocks_for(channels, kThreads), kThreads, channels, mean, var,
               update_of(rows, eps, momentum, running_mean, running_var, invstd));
}

template <class T>
void batch_norm_stats_update(int64_t rows, int64_t channels, double eps, double momentum, const T* x,
                             float* mean, float* var, float* running_mean, float* running_var,
                             float* invstd) {
  stats(rows, channels, x, mean, var, update_of(rows, eps, momentum, running_mean, running_var, invstd));
}

template <class T>
void batch_norm_forward(const BatchNormArgs<T>& a, T* y) {
  if (a.rows == 0 || a.channels == 0) return;
  if (is_learned(a.activation)) return batch_norm_learned_forward(a, y);
  choose<T, Hot::both>(a, wide(a, {y}), true, [&]<int V, class A, Residual R>(Choice<T, V, A, R> choice) {
    const Tiling t = apply_tiling(a.rows, a.channels, V);
    launch_early(batch_norm_forward_kernel<T, V, A, R>, t.grid(), t.block(), choice.act, t, a, y);
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
    launch_early(backward_reduce_kernel<T, V, A, R>, t.grid(), t.block(), choice.act, t, a, dy, g,
                 partials(t), dweight, dbias);
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
        launch_early(batch_norm_input_kernel<T, V, A, R>, t.grid(), t.block(), choice.act, t, a, dy, dweight,
                     dbias, training, float(1 / double(a.rows)), dx);
      });
}

}  // namespace

template <class T>
void set_batch_norm(KernelTable<T>& table) {
  table.batch_norm_stats = batch_norm_stats<T>;
  table.batch_norm_update = batch_norm_update;
  table.batch_norm_stats_update = batch_norm_stats_update<T>;
  if constexpr (sizeof(T) == 2) {
    table.batch_norm_forward_once = [](const BatchNormArgs<T>& a, double eps, double momentum, float* mean,
                                       float* running_mean, float* running_var, float* invstd, T* y) {
      return batch_norm_forward_once(a, update_of(a.rows, eps, momentum, running_mean, running_var, invstd),
                                     mean, y);
    };
    table.batch_norm_backward_once = batch_norm_backward_once<T>;
  }
  table.batch_norm_recomputes = [](Activation act) {  // those that have kernels of their own
    return has_cheap_slope(act) || act == Activation::mish || act == Activation::silu;
  };
  table.batch_norm_forward = batch_norm_forward<T>;
  table.batch_norm_backward_reduce = batch_norm_backward_reduce<T>;
  table.batch_norm_backward_input = batch_norm_backward_input<T>;
  table.batch_norm_pair_forward = batch_norm_pair_forward<T>;
  table.batch_norm_pair_backward = batch_norm_pair_backward<T>;
  table.has_batch_norm_avg_pool = has_batch_norm_avg_pool;
  table.batch_norm_avg_pool_forward = batch_norm_avg_pool_forward<T>;
  table.batch_norm_avg_pool_backward_reduce = batch_norm_avg_pool_backward_reduce<T>;
  table.has_batch_norm_max_pool = has_batch_norm_max_pool;
  table.batch_norm_max_pool_forward = batch_norm_max_pool_forward<T>;
  table.batch_norm_max_pool_backward = batch_norm_max_pool_backward<T>;
}

template void set_batch_norm(KernelTable<float>&);
template void set_batch_norm(KernelTable<bf16>&);
template void set_batch_norm(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
