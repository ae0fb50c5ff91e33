// Softmax, its logarithm, and cross entropy. A team of threads makes a row: a warp, or a whole block where
// rows are long. It walks the row once for each reduction and once to write; the cache has the row after the
// first time.
#include <limits>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/team.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

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

/// z of V neighbouring columns: what the softmax is taken of, -inf in the columns that row r doesn't see.
template <class T, int V>
__device__ inline void masked(const MaskedSoftmaxArgs<T>& a, const T* x, const float* mask, int64_t seen,
                              int64_t c, float (&z)[V]) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  to_floats(load<V>(x + c), z);
  float m[V] = {};
  if (mask) load_floats(mask + c, m);
#pragma unroll
  for (int j = 0; j < V; ++j) z[j] = c + j >= seen || m[j] == -inf ? -inf : fmaf(z[j], a.scale, m[j]);
}

template <class T, int V, bool kBlock>
__global__ void __launch_bounds__(kThreads, 4) masked_kernel(MaskedSoftmaxArgs<T> a, T* y) {
  using TeamT = Team<kBlock>;
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (int64_t row = TeamT::first_row(); row < a.batch * a.heads * a.rows; row += TeamT::rows_apart()) {
    const int64_t plane = row / a.rows, r = row - plane * a.rows;
    const int64_t seen = a.seen(r);
    const T* x = a.x + row * a.cols;
    const float* mask = a.mask_row(plane, r);
    float maximum = -inf, any = 0, sum = 0;
    for_columns<TeamT, V>(a.cols, [&](int64_t c) {
      float z[V];
      masked<T, V>(a, x, mask, seen, c, z);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        maximum = z[j] > maximum ? z[j] : maximum;
        any = z[j] != -inf ? 1 : any;  // a NaN too
      }
    });
    maximum = TeamT::max(maximum), any = TeamT::max(any);
    for_columns<TeamT, V>(a.cols, [&](int64_t c) {
      float z[V];
      masked<T, V>(a, x, mask, seen, c, z);
#pragma unroll
      for (int j = 0; j < V; ++j) sum += expf(z[j] - maximum);
    });
    const float share = 1 / TeamT::sum(sum);
    for_columns<TeamT, V>(a.cols, [&](int64_t c) {
      float z[V];
      masked<T, V>(a, x, mask, seen, c, z);
#pragma unroll
      for (int j = 0; j < V; ++j) z[j] = any == 0 ? 0 : expf(z[j] - maximum) * share;
      store(y + row * a.cols + c, from_floats<T>(z));
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
  wait_for_earlier();
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
    loss_backward_kernel(int64_t rows, int64_t cols, Targets<T> targets, const T* log_p, const T* dloss,
                         T* __restrict__ dx) {
  wait_for_earlier();
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

template <class T, bool kLog>
void forward(int64_t rows, int64_t cols, const T* x, T* y) {
  if (rows == 0 || cols == 0) return;
  choose<T>(rows, cols, {x, y}, [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
    launch(forward_kernel<T, V, kBlock, kLog>, blocks, kThreads, rows, cols, x, y);
  });
}

template <class T>
void masked_softmax(const MaskedSoftmaxArgs<T>& a, T* y) {
  const int64_t rows = a.batch * a.heads * a.rows;
  if (rows == 0 || a.cols == 0) return;
  choose<T>(rows, a.cols, {a.x, y, a.mask}, [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
    launch(masked_kernel<T, V, kBlock>, blocks, kThreads, a, y);
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
              launch_early(loss_kernel<T, V, kBlock>, blocks, kThreads, a.rows, a.classes, a.logits,
                           Targets<T>(a), log_p, partial, loss);
            });
}

template <class T>
void cross_entropy_backward(const CrossEntropyArgs<T>& a, const T* log_p, const T* dloss, T* dx) {
  if (a.rows == 0 || a.classes == 0) return;
  const T* probabilities = a.labels ? nullptr : a.probabilities;
  choose<T>(a.rows, a.classes, {probabilities, log_p, dx},
            [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
              launch_early(loss_backward_kernel<T, V, kBlock>, blocks, kThreads, a.rows, a.classes,
                           Targets<T>(a), log_p, dloss, dx);
            });
}

}  // namespace

template <class T>
void set_softmax(KernelTable<T>& table) {
  table.softmax = forward<T, false>;
  table.log_softmax = forward<T, true>;
  table.masked_softmax = masked_softmax<T>;
  table.softmax_backward = backward<T, false>;
  table.log_softmax_backward = backward<T, true>;
  table.cross_entropy_forward = cross_entropy_forward<T>;
  table.cross_entropy_backward = cross_entropy_backward<T>;
}

template void set_softmax(KernelTable<float>&);
template void set_softmax(KernelTable<bf16>&);
template void set_softmax(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
