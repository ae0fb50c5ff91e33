#include "weft/kernels/cuda/batch_norm_once.h"

#include "weft/kernels/cuda/batch_norm.h"
#include "weft/kernels/cuda/cluster.h"
#include "weft/kernels/cuda/moments.h"

namespace weft::kernels::cuda {
namespace {

// Threads of a block, and rows that each has in hand: of x, with 128 registers a thread, or of x and dy, with
// 255.
constexpr int kForwardThreads = 512, kForwardRows = 16, kBackwardThreads = 256, kBackwardRows = 16;
constexpr int kMaxCluster = 8;
constexpr int kResidualRows = 4;  // rows of a residual

constexpr int kMaxLanes = 4, kColumns = kMaxLanes * 8;  // channels of a block at most

/// What the warps of a block have: the sum of a channel is that of a column.
template <int kThreads>
using WarpSums = float[kThreads / kWarp][kColumns];

/// Adds up what the threads of a warp have for the same channels, and writes it down.
template <int V, int kThreads>
__device__ void add_in_warp(int lanes, const Place<V>& at, float (&sums)[V], WarpSums<kThreads>& to) {
  for (int distance = lanes; distance < kWarp; distance *= 2)
#pragma unroll
    for (int j = 0; j < V; ++j) sums[j] += __shfl_xor_sync(kAllLanes, sums[j], distance);
  if (int(threadIdx.x) % kWarp < lanes) store_floats(&to[int(threadIdx.x) / kWarp][at.lane * V], sums);
}
template <int kThreads>
__device__ float add_warps(int column, const WarpSums<kThreads>& of) {
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += of[warp][column];
  return sum;
}

/// A block's two results for a channel, and those of all blocks of the cluster.
struct Parts {
  Pack<float, 2> of[kMaxCluster][kColumns];

  /// Hands this block's to all blocks.
  __device__ void hand_out(int column, float a, float b) {
    Pack<float, 2>& mine = of[blockIdx.y][column];
    for (unsigned block = 0; block < gridDim.y; ++block) *in_cluster(&mine, block) = {{a, b}};
  }
};

template <class T, class A, Residual R>
__global__ void __launch_bounds__(kForwardThreads, 1)
    forward_once_kernel(A act, Tiling t, BatchNormArgs<T> a, Update update, float* mean, T* y) {
  alignas(16) __shared__ WarpSums<kForwardThreads> room[2];
  __shared__ Parts parts;
  alignas(16) __shared__ float scales[kColumns];
  alignas(16) __shared__ float shifts[kColumns];
  constexpr int V = kWide<T>;
  using Row = Held<T, V>;
  cluster_arrive();
  wait_for_earlier();
  const Place<V> at(t);
  const int count = int(at.count), column = int(threadIdx.x);
  Row rows[kForwardRows];
#pragma unroll
  for (int i = 0; i < kForwardRows; ++i)
    if (i < count) rows[i] = Row::from(a.x + at.first + i * at.step);
  const int64_t channel = int64_t(blockIdx.x) * t.lanes * V + column;
  const bool writes = column < t.lanes * V;
  float weight = 0, bias = 0;
  Update::Running old{};
  if (writes) {
    weight = a.weight[channel];
    bias = a.bias[channel];
    old = update.running(channel);
  }
  // The block's mean, and the squared deviations from it.
  float sums[V] = {};
#pragma unroll
  for (int i = 0; i < kForwardRows; ++i) {
    if (i >= count) break;
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float v[2];
      rows[i].get(k, v);
      sums[2 * k] += v[0];
      sums[2 * k + 1] += v[1];
    }
  }
  add_in_warp<V, kForwardThreads>(t.lanes, at, sums, room[0]);
  __syncthreads();
  const RowsOfBlocks rows_of(t, int(gridDim.y));
  if (writes) scales[column] = add_warps<kForwardThreads>(column, room[0]) / float(rows_of[int(blockIdx.y)]);
  __syncthreads();
  float center[V];
  load_floats(&scales[at.lane * V], center);
#pragma unroll
  for (int j = 0; j < V; ++j) sums[j] = 0;
#pragma unroll
  for (int i = 0; i < kForwardRows; ++i) {
    if (i >= count) break;
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float v[2];
      rows[i].get(k, v);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float d = v[e] - center[2 * k + e];
        sums[2 * k + e] = fmaf(d, d, sums[2 * k + e]);
      }
    }
  }
  add_in_warp<V, kForwardThreads>(t.lanes, at, sums, room[1]);
  __syncthreads();
  cluster_wait();  // all have begun
  if (writes) parts.hand_out(column, scales[column], add_warps<kForwardThreads>(column, room[1]));
  cluster_arrive();
  Row residual[kResidualRows];
  const auto load_residual = [&](int from) {
#pragma unroll
    for (int u = 0; u < kResidualRows; ++u)
      if (from + u < count) residual[u] = Row::from(a.residual + at.first + (from + u) * at.step);
  };
  if (R == Residual::some) load_residual(0);
  cluster_wait();
  if (writes) {
    double total[2] = {};
    const double around = center_of(parts.of[0][column].v[0]);
    for (int block = 0; block < int(gridDim.y); ++block)
      Moments::add(total, around, rows_of[block], parts.of[block][column].v[0], parts.of[block][column].v[1]);
    Moments::finish(total, around, double(t.rows));
    const float mu = float(total[0]), var = float(total[1] / double(t.rows));
    const float invstd = update.invstd_of(var);
    scales[column] = weight * invstd;
    shifts[column] = fmaf(-mu, weight * invstd, bias);
    if (blockIdx.y == 0) {
      mean[channel] = mu;
      update(channel, mu, var, old);
    }
  }
  __syncthreads();
  float scale[V], shift[V];
  load_floats(&scales[at.lane * V], scale);
  load_floats(&shifts[at.lane * V], shift);
  const InHand<A, float> f{act, a.param};
#pragma unroll
  for (int from = 0; from < kForwardRows; from += kResidualRows) {
    if (from >= count) break;
    if (R == Residual::some && from > 0) load_residual(from);
#pragma unroll
    for (int u = 0; u < kResidualRows; ++u) {
      const int i = from + u;
      if (i >= count) break;
#pragma unroll
      for (int k = 0; k < V / 2; ++k) {
        float v[2], r[2];
        rows[i].get(k, v);
        if (R == Residual::some) residual[u].get(k, r);
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          v[e] = fmaf(v[e], scale[2 * k + e], shift[2 * k + e]);
          if (R == Residual::some) v[e] += r[e];
          v[e] = f.forward(v[e]);
        }
        rows[i].set(k, v);
      }
      rows[i].store(y + at.first + i * at.step);
    }
  }
}

template <class T, class A>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    backward_once_kernel(A act, Tiling t, BatchNormArgs<T> a, const T* dy, float* dweight, float* dbias,
                         T* dx) {
  alignas(16) __shared__ WarpSums<kBackwardThreads> room[2];
  __shared__ Parts parts;
  alignas(16) __shared__ float slopes[kColumns];
  alignas(16) __shared__ float offsets[kColumns];
  constexpr int V = kWide<T>;
  using Row = Held<T, V>;
  cluster_arrive();
  wait_for_earlier();
  const Place<V> at(t);
  const int count = int(at.count), column = int(threadIdx.x);
  Row rows[kBackwardRows], grads[kBackwardRows];
#pragma unroll
  for (int i = 0; i < kBackwardRows; ++i)
    if (i < count) {
      rows[i] = Row::from(a.x + at.first + i * at.step);
      grads[i] = Row::from(dy + at.first + i * at.step);
    }
  const int64_t channel = int64_t(blockIdx.x) * t.lanes * V + column;
  const bool writes = column < t.lanes * V;
  // The sums are of g and of g (x - center), where center is the mean as T rounds it: of those two fit into a
  // register.
  const Affine<T, V> affine(a, at.channel);
  Row center;
#pragma unroll
  for (int k = 0; k < V / 2; ++k) center.set(k, {affine.mean[2 * k], affine.mean[2 * k + 1]});
  float weight = 0, mean = 0, invstd = 0;
  if (writes) weight = a.weight[channel], mean = a.mean[channel], invstd = a.invstd[channel];
  const InHand<A, float> f{act, a.param};
  // grads becomes g, rounded; its sums are not.
  float sums[2][V] = {};
#pragma unroll
  for (int i = 0; i < kBackwardRows; ++i) {
    if (i >= count) break;
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float v[2], gs[2], c[2];
      rows[i].get(k, v);
      grads[i].get(k, gs);
      center.get(k, c);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int j = 2 * k + e;
        gs[e] *= slope<T>(f, affine(j, v[e]));
        sums[0][j] += gs[e];
        sums[1][j] = fmaf(gs[e], v[e] - c[e], sums[1][j]);
      }
      grads[i].set(k, gs);
    }
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) add_in_warp<V, kBackwardThreads>(t.lanes, at, sums[k], room[k]);
  __syncthreads();
  cluster_wait();  // all have begun
  if (writes)
    parts.hand_out(column, add_warps<kBackwardThreads>(column, room[0]),
                   add_warps<kBackwardThreads>(column, room[1]));
  cluster_sync();
  if (writes) {
    double total[2] = {};
    for (int block = 0; block < int(gridDim.y); ++block)
      Sums::add(total, 0, 0, parts.of[block][column].v[0], parts.of[block][column].v[1]);
    const float db = float(total[0]);
    const double from_center = double(mean) - double(float(T(mean)));
    const float dw = float((total[1] - from_center * total[0]) * double(invstd));
    // dx = scale g + slope x + offset, where slope and offset are what goes through the batch's statistics.
    const float per_row = -weight * invstd / float(t.rows);
    slopes[column] = dw * per_row * invstd;
    offsets[column] = fmaf(-slopes[column], mean, db * per_row);
    if (blockIdx.y == 0) {
      dweight[channel] = dw;
      dbias[channel] = db;
    }
  }
  __syncthreads();
  float slope[V], offset[V];
  load_floats(&slopes[at.lane * V], slope);
  load_floats(&offsets[at.lane * V], offset);
#pragma unroll
  for (int i = 0; i < kBackwardRows; ++i) {
    if (i >= count) break;
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float v[2], gs[2];
      rows[i].get(k, v);
      grads[i].get(k, gs);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int j = 2 * k + e;
        gs[e] = fmaf(affine.scale[j], gs[e], fmaf(v[e], slope[j], offset[j]));
      }
      rows[i].set(k, gs);
    }
    rows[i].store(dx + at.first + i * at.step);
  }
}

/// Clusters of so many blocks, each with a multiprocessor for itself, that run at once. Multiprocessors come
/// in pairs, and clusters of more have to lie in groups of 14 to 18, where some are left over.
int clusters_at_once(int blocks) {
  const int all = multiprocessors() / blocks;
  return blocks <= 2 ? all : all - all / 8;
}

/// How the channels are spread over clusters; row_blocks is a cluster's size, 0 where a thread would have
/// more than `most` rows, or half of that where only half of the multiprocessors have work: two passes are
/// faster then. Clusters that have to wait for others would double the time.
Tiling cluster_tiling(int64_t rows, int64_t channels, int width, int threads, int most) {
  Tiling best{};
  const int64_t groups = channels / width;
  for (int lanes = 2; lanes <= kMaxLanes && groups % lanes == 0; lanes *= 2)
    for (int blocks = 1; blocks <= kMaxCluster; blocks *= 2) {
      Tiling t{};
      t.rows = rows, t.channels = channels, t.groups = groups;
      t.lanes = lanes, t.lane_rows = threads / lanes;
      t.slices = unsigned(groups / lanes);
      t.row_blocks = unsigned(blocks);
      const int64_t apart = int64_t(blocks) * t.lane_rows;
      if (rows <= apart - t.lane_rows || groups / lanes > clusters_at_once(blocks)) break;
      const bool fills = int64_t(t.slices) * blocks > multiprocessors() * 3 / 4;
      if ((rows + apart - 1) / apart > (fills ? most : most / 2)) continue;
      if (t.slices * t.row_blocks > best.slices * best.row_blocks) best = t;
    }
  return int(best.slices * best.row_blocks) * 3 > multiprocessors() ? best : Tiling{};
}

/// Calls f(A) for the activations that have kernels here.
template <class F>
bool with_kernel(Activation activation, F&& f) {
  bool found = false;
  with_activation(activation, [&]<class A>(A act) {
    if constexpr (!std::is_same_v<A, AnyActivation>) {
      found = true;
      f(act);
    }
  });
  return found;
}

template <class T>
bool fits(const BatchNormArgs<T>& a, std::initializer_list<const void*> others) {
  return sizeof(T) == 2 && can_launch_early() && a.channels % (2 * kWide<T>) == 0 && a.rows > 1 &&
         !is_learned(a.activation) && aligned({a.x, a.residual}) && aligned(others);
}

}  // namespace

bool fits_batch_norm_once(int64_t rows, int64_t channels) {
  constexpr int V = kWide<bf16>;
  return can_launch_early() && channels % (2 * V) == 0 &&
         cluster_tiling(rows, channels, V, kForwardThreads, kForwardRows).row_blocks > 0;
}

template <class T>
bool batch_norm_forward_once(const BatchNormArgs<T>& a, const Update& update, float* mean, T* y) {
  if (!fits(a, {y})) return false;
  constexpr int V = kWide<T>;
  const Tiling t = cluster_tiling(a.rows, a.channels, V, kForwardThreads, kForwardRows);
  if (t.row_blocks == 0) return false;
  return with_kernel(a.activation, [&]<class A>(A act) {
    const auto start = [&](auto kernel) {
      launch_clusters(kernel, t.grid(), t.block(), dim3(1, t.row_blocks), act, t, a, update, mean, y);
    };
    a.residual ? start(forward_once_kernel<T, A, Residual::some>)
               : start(forward_once_kernel<T, A, Residual::none>);
  });
}

template <class T>
bool batch_norm_backward_once(const BatchNormArgs<T>& a, const T* dy, float* dweight, float* dbias, T* dx) {
  if (a.residual || !fits(a, {dy, dx, a.mean, a.invstd, a.weight, a.bias})) return false;
  constexpr int V = kWide<T>;
  const Tiling t = cluster_tiling(a.rows, a.channels, V, kBackwardThreads, kBackwardRows);
  if (t.row_blocks == 0) return false;
  return with_kernel(a.activation, [&]<class A>(A act) {
    launch_clusters(backward_once_kernel<T, A>, t.grid(), t.block(), dim3(1, t.row_blocks), act, t, a, dy,
                    dweight, dbias, dx);
  });
}

template bool batch_norm_forward_once(const BatchNormArgs<bf16>&, const Update&, float*, bf16*);
template bool batch_norm_forward_once(const BatchNormArgs<f16>&, const Update&, float*, f16*);
template bool batch_norm_backward_once(const BatchNormArgs<bf16>&, const bf16*, float*, float*, bf16*);
template bool batch_norm_backward_once(const BatchNormArgs<f16>&, const f16*, float*, float*, f16*);

}  // namespace weft::kernels::cuda
