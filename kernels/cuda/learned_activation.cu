// Activations with learned parameters. The backward pass reads x and dy once: it writes dx and keeps its sums
// for the parameters in registers. They give one partial result for each block and channel, which a second
// kernel adds up in a fixed order.
#include <iterator>

#include "weft/kernels/activation_list.h"
#include "weft/kernels/cuda/channels.h"
#include "weft/kernels/cuda/families.h"

namespace weft::kernels::cuda {
namespace {

template <class A>
constexpr int kCount = int(std::size(A::starts));

/// The parameters of a thread's channels: [channel][parameter].
template <class A, int V, class T>
__device__ inline void load_parameters(const LearnedActivationArgs<T>& a, int64_t channel,
                                       float (&to)[V][kCount<A>]) {
#pragma unroll
  for (int k = 0; k < kCount<A>; ++k) {
    float values[V];
    load_floats(a.parameters[k] + channel, values);
#pragma unroll
    for (int j = 0; j < V; ++j) to[j][k] = values[j];
  }
}

template <class T, int V, class A>
__global__ void __launch_bounds__(kApplyThreads, kApplyBlocks)
    forward_kernel(A, Tiling t, LearnedActivationArgs<T> a, T* y) {
  const Place<V> at(t);
  if (at.count == 0) return;
  float p[V][kCount<A>];
  load_parameters<A>(a, at.channel, p);
  for_rows<4>(at.count, at.first, at.step, [&]<int U>(int64_t offset, Rows<U>) {
    Pack<T, V> rows[U];
#pragma unroll
    for (int u = 0; u < U; ++u) rows[u] = load<V>(a.x + offset + u * at.step);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      float v[V];
      to_floats(rows[u], v);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = A::forward(v[j], p[j]);
      store(y + offset + u * at.step, from_floats<T>(v));
    }
  });
}

/// partial: [row blocks, parameters, channels]
template <class T, int V, class A>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    backward_kernel(A, Tiling t, LearnedActivationArgs<T> a, const T* dy, T* dx, float* partial) {
  constexpr int count = kCount<A>;
  const Place<V> at(t);
  float p[V][count], sums[count][V] = {};
  load_parameters<A>(a, at.channel, p);
  for_rows<2>(at.count, at.first, at.step, [&]<int U>(int64_t offset, Rows<U>) {
    Pack<T, V> rows[U], grads[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      rows[u] = load<V>(a.x + offset + u * at.step);
      grads[u] = load<V>(dy + offset + u * at.step);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      float v[V], g[V];
      to_floats(rows[u], v);
      to_floats(grads[u], g);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        float d[count];
        A::gradients(v[j], p[j], d);
#pragma unroll
        for (int k = 0; k < count; ++k) sums[k][j] = fmaf(g[j], d[k], sums[k][j]);
        g[j] *= A::derivative(v[j], p[j]);
      }
      store(dx + offset + u * at.step, from_floats<T>(g));
    }
  });

  __shared__ float room[kReduceThreads * V];
  const int columns = t.lanes * V, column = int(threadIdx.x);
  const int64_t channel = int64_t(blockIdx.x) * columns + column;
#pragma unroll
  for (int k = 0; k < count; ++k) {
#pragma unroll
    for (int j = 0; j < V; ++j) room[at.lane_row * columns + at.lane * V + j] = sums[k][j];
    __syncthreads();
    if (column < columns && channel < t.channels) {
      float sum = 0;
      for (int row = 0; row < t.lane_rows; ++row) sum += room[row * columns + column];
      partial[(int64_t(blockIdx.y) * count + k) * t.channels + channel] = sum;
    }
    __syncthreads();
  }
}

struct Gradients {
  float* of[kMostLearnedParameters] = {};
};
constexpr int kColumns = 32, kGroups = 8;

/// Adds up the partial results of `blocks` blocks: kGroups threads for each parameter and channel.
__global__ void __launch_bounds__(kColumns* kGroups)
    combine_kernel(int blocks, int count, int64_t channels, const float* partial, Gradients to) {
  __shared__ double room[kGroups][kColumns];
  const int column = int(threadIdx.x) % kColumns, group = int(threadIdx.x) / kColumns;
  const int64_t at = int64_t(blockIdx.x) * kColumns + column, all = count * channels;
  double sum = 0;
  if (at < all)
#pragma unroll 4
    for (int block = group; block < blocks; block += kGroups) sum += double(partial[block * all + at]);
  room[group][column] = sum;
  __syncthreads();
  if (group > 0 || at >= all) return;
  for (int other = 1; other < kGroups; ++other) sum += room[other][column];
  const int k = int(at / channels);
#pragma unroll
  for (int i = 0; i < kMostLearnedParameters; ++i)
    if (i == k) to.of[i][at - k * channels] = float(sum);
}

/// Calls f with the struct of a learned activation and V, the neighbours that a thread takes at once.
template <class T, class F>
void choose(const LearnedActivationArgs<T>& a, std::initializer_list<const void*> others, F&& f) {
  const bool wide = a.channels % kWide<T> == 0 &&
                    aligned({a.x, a.parameters[0], a.parameters[1], a.parameters[2], a.parameters[3]}) &&
                    aligned(others);
  static_assert(kMostLearnedParameters == 4);
  switch (a.activation) {
#define WEFT_CASE(name)                                                           \
  case Activation::name:                                                          \
    return wide ? f(activations::name{}, std::integral_constant<int, kWide<T>>{}) \
                : f(activations::name{}, std::integral_constant<int, 1>{});
    WEFT_FOR_EACH_LEARNED_ACTIVATION(WEFT_CASE)
#undef WEFT_CASE
    default:
      return;
  }
}

template <class T>
void learned_activation(const LearnedActivationArgs<T>& a, T* y) {
  if (a.rows == 0 || a.channels == 0) return;
  choose(a, {y}, [&]<class A, int V>(A act, std::integral_constant<int, V>) {
    const Tiling t = apply_tiling(a.rows, a.channels, V);
    launch(forward_kernel<T, V, A>, t.grid(), t.block(), act, t, a, y);
  });
}

template <class T>
void learned_activation_backward(const LearnedActivationArgs<T>& a, const T* dy, T* dx,
                                 float* const* gradients) {
  if (a.channels == 0) return;
  choose(a, {dy, dx}, [&]<class A, int V>(A act, std::integral_constant<int, V>) {
    constexpr int count = kCount<A>;
    const Tiling t = reduce_tiling(a.rows, a.channels, V);
    const int64_t sums = count * a.channels;
    auto* partial = static_cast<float*>(scratch(int64_t(sizeof(float)) * t.row_blocks * sums));
    launch(backward_kernel<T, V, A>, t.grid(), t.block(), act, t, a, dy, dx, partial);
    Gradients to;
    for (int k = 0; k < count; ++k) to.of[k] = gradients[k];
    launch(combine_kernel, blocks_for(sums, kColumns), kColumns * kGroups, int(t.row_blocks), count,
           a.channels, partial, to);
  });
}

}  // namespace

template <class T>
void set_learned_activation(KernelTable<T>& table) {
  table.learned_activation = learned_activation<T>;
  table.learned_activation_backward = learned_activation_backward<T>;
}

template void set_learned_activation(KernelTable<float>&);
template void set_learned_activation(KernelTable<bf16>&);
template void set_learned_activation(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
