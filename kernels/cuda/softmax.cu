// Softmax, its logarithm, and cross entropy. A team of threads makes a row: a warp, or a whole block where
// rows are long. It walks the row once for each reduction and once to write; the cache has the row after the
// first time.
#include <limits>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/reduction.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int64_t kLongRow = 4096;

/// The threads that make a row: one of the block's warps, or all of them.
template <bool kBlock>
struct Team {
  static constexpr int size = kBlock ? kThreads : kWarp;
  static constexpr int per_block = kBlock ? 1 : kWarps;

  static __device__ int thread() { return kBlock ? int(threadIdx.x) : int(threadIdx.x) % kWarp; }
  static __device__ int64_t first_row() {
    return int64_t(blockIdx.x) * per_block + (kBlock ? 0 : threadIdx.x / kWarp);
  }
  static __device__ int64_t rows_apart() { return int64_t(gridDim.x) * per_block; }

  /// The sum or maximum over the team, in all its threads.
  static __device__ float sum(float v) {
    v = warp_sum(v);
    if constexpr (kBlock) {
      float all = 0;
      over_warps(v, [&](float other) { all += other; });
      return all;
    }
    return v;
  }
  static __device__ float max(float v) {
    v = warp_max(v);
    if constexpr (kBlock) over_warps(v, [&](float other) { v = other > v ? other : v; });
    return v;
  }

 private:
  template <class F>
  static __device__ void over_warps(float v, F&& f) {
    __shared__ float room[kWarps];
    __syncthreads();  // all have read what was here before
    if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = v;
    __syncthreads();
    for (int warp = 0; warp < kWarps; ++warp) f(room[warp]);
  }
};

/// Calls f(column) for the team's columns of a row, each the first of V.
template <class TeamT, int V, class F>
__device__ inline void for_columns(int64_t cols, F&& f) {
  for (int64_t c = int64_t(TeamT::thread()) * V; c < cols; c += TeamT::size * V) f(c);
}

/// For a row x: its maximum and the sum of exp(x - maximum). NaN as in the reference: a NaN makes the sum
/// NaN.
template <class TeamT, int V, class T>
__device__ inline void max_and_sum(int64_t cols, const T* x, float& maximum, float& sum) {
  maximum = -std::numeric_limits<float>::infinity();
  for_columns<TeamT, V>(cols, [&](int64_t c) {
    float v[V];
    to_floats(load<V>(x + c), v);
#pragma unroll
    for (int j = 0; j < V; ++j) maximum = v[j] > maximum ? v[j] : maximum;
  });
  maximum = TeamT::max(maximum);
  sum = 0;
  for_columns<TeamT, V>(cols, [&](int64_t c) {
    float v[V];
    to_floats(load<V>(x + c), v);
#pragma unroll
    for (int j = 0; j < V; ++j) sum += expf(v[j] - maximum);
  });
  sum = TeamT::sum(sum);
}

// x and y, and dy and dx, may be one array: no thread reads a column that another one has written.

template <class T, int V, bool kBlock, bool kLog>
__global__ void __launch_bounds__(kThreads, 4) forward_kernel(int64_t rows, int64_t cols, const T* x, T* y) {
  using TeamT = Team<kBlock>;
  for (int64_t row = TeamT::first_row(); row < rows; row += TeamT::rows_apart()) {
    const T* from = x + row * cols;
    T* to = y + row * cols;
    float maximum, sum;
    max_and_sum<TeamT, V>(cols, from, maximum, sum);
    const float last = kLog ? logf(sum) : 1 / sum;
    for_columns<TeamT, V>(cols, [&](int64_t c) {
      float v[V];
      to_floats(load<V>(from + c), v);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = kLog ? v[j] - maximum - last : expf(v[j] - maximum) * last;
      store(to + c, from_floats<T>(v));
    });
  }
}

template <class T, int V, bool kBlock, bool kLog>
__global__ void __launch_bounds__(kThreads, 4)
    backward_kernel(int64_t rows, int64_t cols, const T* y, const T* dy, T* dx) {
  using TeamT = Team<kBlock>;
  for (int64_t row = TeamT::first_row(); row < rows; row += TeamT::rows_apart()) {
    const int64_t start = row * cols;
    float sum = 0;
    for_columns<TeamT, V>(cols, [&](int64_t c) {
      float d[V], v[V];
      to_floats(load<V>(dy + start + c), d);
      if (!kLog) to_floats(load<V>(y + start + c), v);
#pragma unroll
      for (int j = 0; j < V; ++j) sum = kLog ? sum + d[j] : fmaf(d[j], v[j], sum);
    });
    sum = TeamT::sum(sum);
    for_columns<TeamT, V>(cols, [&](int64_t c) {
      float d[V], v[V];
      to_floats(load<V>(dy + start + c), d);
      to_floats(load<V>(y + start + c), v);
#pragma unroll
      for (int j = 0; j < V; ++j) d[j] = kLog ? d[j] - expf(v[j]) * sum : v[j] * (d[j] - sum);
      store(dx + start + c, from_floats<T>(d));
    });
  }
}

// --- cross entropy ---

/// What a class is to have: its probability, or with labels `low`, and `high` more at the label.
template <class T>
struct Targets {
  const int64_t* labels;
  const T* probabilities;
  float low, high;

  explicit Targets(const CrossEntropyArgs<T>& a)
      : labels(a.labels),
        probabilities(a.probabilities),
        low(float(a.smoothing / double(a.classes))),
        high(float(1 - a.smoothing)) {}

  template <int V>
  __device__ void get(int64_t row, int64_t cols, int64_t c, int64_t label, float (&t)[V]) const {
    if (!labels) return to_floats(load<V>(probabilities + row * cols + c), t);
#pragma unroll
    for (int j = 0; j < V; ++j) t[j] = c + j == label ? low + high : low;
  }
};

__device__ unsigned arrivals;  // one stream, so that no two kernels use it at once

/// partial: [gridDim.x], the blocks' sums of their rows' losses.
template <class T, int V, bool kBlock>
__global__ void __launch_bounds__(kThreads, 4)
    loss_kernel(int64_t rows, int64_t cols, const T* x, Targets<T> targets, T* log_p, double* partial,
                T* loss) {
  using TeamT = Team<kBlock>;
  __shared__ double team_losses[kWarps];
  double total = 0;
  for (int64_t row = TeamT::first_row(); row < rows; row += TeamT::rows_apart()) {
    const T* from = x + row * cols;
    T* to = log_p + row * cols;
    float maximum, sum;
    max_and_sum<TeamT, V>(cols, from, maximum, sum);
    const float log_sum = logf(sum);
    const int64_t label = targets.labels ? targets.labels[row] : 0;
    float row_loss = 0;
    for_columns<TeamT, V>(cols, [&](int64_t c) {
      float v[V], t[V];
      to_floats(load<V>(from + c), v);
      targets.get(row, cols, c, label, t);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        v[j] = v[j] - maximum - log_sum;
        if (t[j] != 0) row_loss = fmaf(-t[j], v[j], row_loss);
      }
      store(to + c, from_floats<T>(v));
    });
    total += double(TeamT::sum(row_loss));
    if (targets.labels && (label < 0 || label >= cols)) total = std::numeric_limits<double>::quiet_NaN();
  }
  if (TeamT::thread() == 0) team_losses[threadIdx.x / TeamT::size] = total;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int team = 1; team < TeamT::per_block; ++team) total += team_losses[team];
    partial[blockIdx.x] = total;
  }
  if (!last_to_arrive(&arrivals, gridDim.x)) return;
  if (threadIdx.x >= kWarp) return;
  total = 0;
  for (int block = int(threadIdx.x); block < int(gridDim.x); block += kWarp) total += partial[block];
  total = warp_sum(total);
  if (threadIdx.x == 0) *loss = T(float(total / double(rows)));
}

template <class T, int V, bool kBlock>
__global__ void __launch_bounds__(kThreads, 4)
    loss_backward_kernel(int64_t rows, int64_t cols, Targets<T> targets, const T* __restrict__ log_p,
                         const T* __restrict__ dloss, T* __restrict__ dx) {
  using TeamT = Team<kBlock>;
  const float scale = float(double(float(*dloss)) / double(rows));
  for (int64_t row = TeamT::first_row(); row < rows; row += TeamT::rows_apart()) {
    const int64_t start = row * cols, label = targets.labels ? targets.labels[row] : 0;
    float sum = 0;  // of the row's targets
    if (targets.labels) {
      sum = targets.low * float(cols) + (label >= 0 && label < cols ? targets.high : 0);
    } else {
      for_columns<TeamT, V>(cols, [&](int64_t c) {
        float t[V];
        targets.get(row, cols, c, label, t);
#pragma unroll
        for (int j = 0; j < V; ++j) sum += t[j];
      });
      sum = TeamT::sum(sum);
    }
    for_columns<TeamT, V>(cols, [&](int64_t c) {
      float v[V], t[V];
      to_floats(load<V>(log_p + start + c), v);
      targets.get(row, cols, c, label, t);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = scale * (expf(v[j]) * sum - t[j]);
      store(dx + start + c, from_floats<T>(v));
    });
  }
}

// --- table entries ---

template <int V, bool kBlock>
struct Choice {};

/// Calls f(blocks, Choice): wide loads where the columns and pointers allow, a block for each long row.
template <class T, class F>
void choose(int64_t rows, int64_t cols, std::initializer_list<const void*> pointers, F&& f) {
  const unsigned blocks = blocks_for(rows, cols < kLongRow ? kWarps : 1, 4 * multiprocessors());
  if (cols % kWide<T> != 0 || !aligned(pointers))
    cols < kLongRow ? f(blocks, Choice<1, false>{}) : f(blocks, Choice<1, true>{});
  else
    cols < kLongRow ? f(blocks, Choice<kWide<T>, false>{}) : f(blocks, Choice<kWide<T>, true>{});
}

template <class T, bool kLog>
void forward(int64_t rows, int64_t cols, const T* x, T* y) {
  if (rows == 0 || cols == 0) return;
  choose<T>(rows, cols, {x, y}, [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
    launch(forward_kernel<T, V, kBlock, kLog>, blocks, kThreads, rows, cols, x, y);
  });
}

template <class T, bool kLog>
void backward(int64_t rows, int64_t cols, const T* y, const T* dy, T* dx) {
  if (rows == 0 || cols == 0) return;
  choose<T>(rows, cols, {y, dy, dx}, [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
    launch(backward_kernel<T, V, kBlock, kLog>, blocks, kThreads, rows, cols, y, dy, dx);
  });
}

template <class T>
void cross_entropy_forward(const CrossEntropyArgs<T>& a, T* log_p, T* loss) {
  const T* probabilities = a.labels ? nullptr : a.probabilities;
  choose<T>(a.rows, a.classes, {a.logits, probabilities, log_p},
            [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
              double* partial = static_cast<double*>(scratch(int64_t(sizeof(double)) * blocks));
              launch(loss_kernel<T, V, kBlock>, blocks, kThreads, a.rows, a.classes, a.logits, Targets<T>(a),
                     log_p, partial, loss);
            });
}

template <class T>
void cross_entropy_backward(const CrossEntropyArgs<T>& a, const T* log_p, const T* dloss, T* dx) {
  if (a.rows == 0 || a.classes == 0) return;
  const T* probabilities = a.labels ? nullptr : a.probabilities;
  choose<T>(a.rows, a.classes, {probabilities, log_p, dx},
            [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
              launch(loss_backward_kernel<T, V, kBlock>, blocks, kThreads, a.rows, a.classes, Targets<T>(a),
                     log_p, dloss, dx);
            });
}

}  // namespace

template <class T>
void set_softmax(KernelTable<T>& table) {
  table.softmax = forward<T, false>;
  table.log_softmax = forward<T, true>;
  table.softmax_backward = backward<T, false>;
  table.log_softmax_backward = backward<T, true>;
  table.cross_entropy_forward = cross_entropy_forward<T>;
  table.cross_entropy_backward = cross_entropy_backward<T>;
}

template void set_softmax(KernelTable<float>&);
template void set_softmax(KernelTable<bf16>&);
template void set_softmax(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
