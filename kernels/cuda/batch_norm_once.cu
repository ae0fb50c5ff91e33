#include "weft/kernels/cuda/batch_norm_once.h"

#include "weft/kernels/cuda/batch_norm.h"
#include "weft/kernels/cuda/moments.h"
#include "weft/kernels/cuda/together.h"

namespace weft::kernels::cuda {
namespace {

// Threads of a block, and rows that each has in hand: of x, with 128 registers a thread, or of x and dy, with
// 255.
constexpr int kForwardThreads = 512, kForwardRows = 16, kBackwardThreads = 256, kBackwardRows = 16;
constexpr int kAhead = 4;  // rows of a residual on their way

constexpr int kMaxLanes = 4, kColumns = kMaxLanes * 8;  // channels of a block at most

/// Lets the compiler forget what the offset is made of: else it multiplies for each row, and keeps the
/// offsets of all rows in registers from one pass to the next.
__device__ inline void hide([[maybe_unused]] int64_t& offset) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(offset));
#endif
}

/// The rows of kTensors tensors that a thread has in its registers.
template <class T, int kTensors, int kRows>
struct InHandRows {
  using Row = Held<T, kWide<T>>;
  Row rows[kRows][kTensors];
  int count;
  int64_t first, step;  // offsets of the first row, from row to row

  __device__ InHandRows(const Place<kWide<T>>& at, const T* const (&from)[kTensors])
      : count(at.count), first(at.first), step(at.step) {
    int64_t offset = first;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (i >= count) break;
#pragma unroll
      for (int k = 0; k < kTensors; ++k) rows[i][k] = Row::from(from[k] + offset);
      offset += step;
      hide(offset);
    }
  }
  /// f(rows of the tensors, i, their offset) one row after the other; what it makes of them is kept where it
  /// is `changing` them.
  template <bool changing = false, class F>
  __device__ void each(F&& f) {
    int64_t offset = first;
    hide(offset);
#pragma unroll
    for (int i = 0; i < kRows; ++i, offset += step) {
      if (i >= count) break;
      Row now[kTensors];
#pragma unroll
      for (int k = 0; k < kTensors; ++k) now[k] = rows[i][k];
      f(now, i, offset);
#pragma unroll
      for (int k = 0; changing && k < kTensors; ++k) rows[i][k] = now[k];
    }
  }
};

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

// One stream, so that no two kernels use them at once.
constexpr int kMostBlocks = 256;
__device__ Turns turns;
__device__ Told told[kMostBlocks * kColumns];

/// A block's two results for a channel.
__device__ inline Told& told_by(int block, int column) {
  return told[(int(blockIdx.x * gridDim.y) + block) * kColumns + column];
}

/// Adds up what the blocks tell of a channel, N of them looked at together, for threads below `columns`.
template <class Merge, int V, int N, int kThreads>
__device__ void add_blocks(unsigned turn, const Tiling& t, double (&room)[2][kThreads], double (&total)[2]) {
  const int thread = int(threadIdx.x), columns = t.lanes * V, group = t.over_lanes(thread / V),
            column = thread - group * columns, blocks = int(gridDim.y);
  const RowsOfBlocks rows(t);
  total[0] = total[1] = 0;
  for_every<N>(
      group, blocks, t.lane_rows / V, [&](int block) { return told_by(block, column).look(); },
      [&](int block, const Told& now) {
        const Told part = told_by(block, column).hear(turn, now);
        Merge::add(total, 0, double(rows[block]), part.value(0), part.value(1));
      });
  room[0][thread] = total[0];
  room[1][thread] = total[1];
  __syncthreads();
  if (thread == 0) turns.done(turn);
  if (thread >= columns) return;
  add_groups<4>(room, columns, min(blocks * columns, kThreads), total);
  Merge::finish(total, 0, t.per_row);
}

template <class T, class A, Residual R>
__global__ void __launch_bounds__(kForwardThreads, 1)
    forward_once_kernel(A act, Tiling t, BatchNormArgs<T> a, Update update, float* mean, T* y) {
  alignas(16) __shared__ WarpSums<kForwardThreads> room[2];
  __shared__ double blocks[2][kForwardThreads];
  alignas(16) __shared__ float scales[kColumns];
  alignas(16) __shared__ float shifts[kColumns];
  constexpr int V = kWide<T>;
  using Row = Held<T, V>;
  const Place<V> at(t);
  wait_for_earlier();
  const int column = int(threadIdx.x);
  __shared__ unsigned turn;
  if (column == 0) turn = turns.next();
  InHandRows<T, 1, kForwardRows> rows(at, {a.x});
  // What the block's first row has: no matter how far the mean is from 0, little is lost by sums of what is
  // above that, and of the squares. Where that row is far from all others, var is good to 2^-24 times rows.
  const T* const first_row = a.x + int64_t(blockIdx.y) * t.lane_rows * t.channels;
  float center[V];
  Row::from(first_row + at.channel).get(center);
  const int channel = int(blockIdx.x) * t.lanes * V + column;
  const bool writes = column < t.lanes * V;
  float weight = 0, bias = 0, own_center = 0;
  Update::Running old{};
  if (writes) {
    weight = a.weight[channel];
    bias = a.bias[channel];
    own_center = finite_or_0(float(first_row[channel]));
    old = update.running(channel);
  }
#pragma unroll
  for (int j = 0; j < V; ++j) center[j] = finite_or_0(center[j]);
  float sums[2][V] = {};
  rows.each([&](Row(&row)[1], int, int64_t) {
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float v[2];
      row[0].get(k, v);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int j = 2 * k + e;
        const float d = v[e] - center[j];
        sums[0][j] += d;
        sums[1][j] = fmaf(d, d, sums[1][j]);
      }
    }
  });
#pragma unroll
  for (int k = 0; k < 2; ++k) add_in_warp<V, kForwardThreads>(t.lanes, at, sums[k], room[k]);
  __syncthreads();
  if (writes) {
    // The block's mean, and the squared deviations from it.
    const float sum = add_warps<kForwardThreads>(column, room[0]),
                d = sum * math::reciprocal(float(RowsOfBlocks(t)[int(blockIdx.y)])),
                rest = add_warps<kForwardThreads>(column, room[1]) - sum * d;
    told_by(int(blockIdx.y), column).tell(turn, own_center + d, rest < 0 ? 0 : rest);
  }
  Row residual[kAhead];
  const auto load_residual = [&](int i, int64_t offset) {
    if (R == Residual::some && i < rows.count) residual[i % kAhead] = Row::from(a.residual + offset);
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) load_residual(i, rows.first + i * rows.step);
  let_others_tell();
  double total[2];
  add_blocks<Moments, V, 2>(turn, t, blocks, total);
  if (writes) {
    const float mu = float(total[0]), var = float(total[1] * t.per_row);
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
  rows.each([&](Row(&row)[1], int i, int64_t offset) {
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float v[2], r[2];
      row[0].get(k, v);
      if (R == Residual::some) residual[i % kAhead].get(k, r);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        v[e] = fmaf(v[e], scale[2 * k + e], shift[2 * k + e]);
        if (R == Residual::some) v[e] += r[e];
        v[e] = value<T>(f, v[e]);
      }
      row[0].set(k, v);
    }
    row[0].store(y + offset);
    load_residual(i + kAhead, offset + kAhead * rows.step);
  });
}

template <class T, class A, Residual R>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    backward_once_kernel(A act, Tiling t, BatchNormArgs<T> a, const T* dy, T* g, float* dweight, float* dbias,
                         T* dx) {
  alignas(16) __shared__ WarpSums<kBackwardThreads> room[2];
  __shared__ double blocks[2][kBackwardThreads];
  alignas(16) __shared__ float slopes[kColumns];
  alignas(16) __shared__ float constants[kColumns];
  constexpr int V = kWide<T>;
  using Row = Held<T, V>;
  const Place<V> at(t);
  wait_for_earlier();
  const int column = int(threadIdx.x);
  __shared__ unsigned turn;
  if (column == 0) turn = turns.next();
  InHandRows<T, 2, kBackwardRows> rows(at, {a.x, dy});
  Row residual[kAhead];
  const auto load_residual = [&](int i, int64_t offset) {
    if (R == Residual::some && i < rows.count) residual[i % kAhead] = Row::from(a.residual + offset);
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) load_residual(i, rows.first + i * rows.step);
  const int channel = int(blockIdx.x) * t.lanes * V + column;
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
  // dy becomes g, rounded; its sums are not.
  float sums[2][V] = {};
  rows.template each<true>([&](Row(&row)[2], int i, int64_t offset) {
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float v[2], gs[2], c[2], r[2];
      row[0].get(k, v);
      row[1].get(k, gs);
      center.get(k, c);
      if (R == Residual::some) residual[i % kAhead].get(k, r);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int j = 2 * k + e;
        float z = affine(j, v[e]);
        if (R == Residual::some) z += r[e];
        gs[e] *= slope<T>(f, z);
        sums[0][j] += gs[e];
        sums[1][j] = fmaf(gs[e], v[e] - c[e], sums[1][j]);
      }
      row[1].set(k, gs);
    }
    if (R == Residual::some) row[1].store(g + offset);
    load_residual(i + kAhead, offset + kAhead * rows.step);
  });
#pragma unroll
  for (int k = 0; k < 2; ++k) add_in_warp<V, kBackwardThreads>(t.lanes, at, sums[k], room[k]);
  __syncthreads();
  if (writes)
    told_by(int(blockIdx.y), column)
        .tell(turn, add_warps<kBackwardThreads>(column, room[0]),
              add_warps<kBackwardThreads>(column, room[1]));
  let_others_tell();
  double total[2];
  add_blocks<Sums, V, 4>(turn, t, blocks, total);
  if (writes) {
    const float db = float(total[0]);
    const double from_center = double(mean) - double(float(T(mean)));
    const float dw = float((total[1] - from_center * total[0]) * double(invstd));
    // dx = scale g + slope x + constant, where slope and constant are what goes through the batch's
    // statistics.
    const float per_row = -weight * invstd * float(t.per_row);
    slopes[column] = dw * per_row * invstd;
    constants[column] = fmaf(-slopes[column], mean, db * per_row);
    if (blockIdx.y == 0) {
      dweight[channel] = dw;
      dbias[channel] = db;
    }
  }
  __syncthreads();
  float slope[V], constant[V];
  load_floats(&slopes[at.lane * V], slope);
  load_floats(&constants[at.lane * V], constant);
  rows.each([&](Row(&row)[2], int, int64_t offset) {
#pragma unroll
    for (int k = 0; k < V / 2; ++k) {
      float v[2], gs[2];
      row[0].get(k, v);
      row[1].get(k, gs);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int j = 2 * k + e;
        gs[e] = fmaf(affine.scale[j], gs[e], fmaf(v[e], slope[j], constant[j]));
      }
      row[0].set(k, gs);
    }
    row[0].store(dx + offset);
  });
}

/// How the channels are spread over slices and their rows over blocks, at most one for each multiprocessor.
/// No row_blocks: a thread would have more than `most` rows, or than half of that where a quarter of the
/// multiprocessors have no work: two passes are faster then.
Tiling once_tiling(int64_t rows, int64_t channels, int width, int threads, int most) {
  Tiling best{};
  const int most_blocks = std::min(multiprocessors(), kMostBlocks);
  const auto blocks_of = [](const Tiling& t) { return int(t.slices * t.row_blocks); };
  for (int lanes = 2; lanes <= kMaxLanes; lanes *= 2) {
    Tiling t(rows, channels, width, lanes, threads);
    if (t.groups % lanes != 0 || int(t.slices) > most_blocks) continue;
    t.share_rows(blocks_for(rows, t.lane_rows, most_blocks / int(t.slices)));
    const bool fills = blocks_of(t) * 4 >= multiprocessors() * 3;
    if (rows > (fills ? most : most / 2) * int64_t(t.lane_rows) * t.row_blocks) continue;
    if (blocks_of(t) >= blocks_of(best)) best = t;
  }
  return best;
}

template <class T>
bool fits(const BatchNormArgs<T>& a, std::initializer_list<const void*> others) {
  return sizeof(T) == 2 && can_launch_together() && a.channels % (2 * kWide<T>) == 0 && a.rows > 1 &&
         !is_learned(a.activation) && aligned({a.x, a.residual}) && aligned(others);
}

/// run(activation, tiling) where there is a kernel for the activation, and room; false if not.
template <class T, class F>
bool with_kernels(const BatchNormArgs<T>& a, int threads, int most, F&& run) {
  const Tiling t = once_tiling(a.rows, a.channels, kWide<T>, threads, most);
  bool done = false;
  if (t.row_blocks > 0)
    with_activation(a.activation, [&]<class A>(A act) {
      if constexpr (!std::is_same_v<A, AnyActivation>) {
        run(act, t);
        done = true;
      }
    });
  return done;
}

}  // namespace

template <class T>
bool batch_norm_forward_once(const BatchNormArgs<T>& a, const Update& update, float* mean, T* y) {
  return fits(a, {y}) && with_kernels(a, kForwardThreads, kForwardRows, [&]<class A>(A act, const Tiling& t) {
           const auto kernel = a.residual ? forward_once_kernel<T, A, Residual::some>
                                          : forward_once_kernel<T, A, Residual::none>;
           launch_together(kernel, t.grid(), t.block(), act, t, a, update, mean, y);
         });
}

template <class T>
bool batch_norm_backward_once(const BatchNormArgs<T>& a, const T* dy, T* g, float* dweight, float* dbias,
                              T* dx) {
  return fits(a, {dy, g, dx, a.mean, a.invstd, a.weight, a.bias}) &&
         with_kernels(a, kBackwardThreads, kBackwardRows, [&]<class A>(A act, const Tiling& t) {
           const auto kernel = a.residual ? backward_once_kernel<T, A, Residual::some>
                                          : backward_once_kernel<T, A, Residual::none>;
           launch_together(kernel, t.grid(), t.block(), act, t, a, dy, g, dweight, dbias, dx);
         });
}

template bool batch_norm_forward_once(const BatchNormArgs<bf16>&, const Update&, float*, bf16*);
template bool batch_norm_forward_once(const BatchNormArgs<f16>&, const Update&, float*, f16*);
template bool batch_norm_backward_once(const BatchNormArgs<bf16>&, const bf16*, bf16*, float*, float*, bf16*);
template bool batch_norm_backward_once(const BatchNormArgs<f16>&, const f16*, f16*, float*, float*, f16*);

}  // namespace weft::kernels::cuda
