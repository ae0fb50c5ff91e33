// Activations with learned parameters. The backward pass reads x and dy once: it writes dx and keeps its sums
// for the parameters in registers. They give one partial result for each block and channel, which a second
// kernel adds up in a fixed order.
#include "weft/kernels/activation_in_hand.h"
#include "weft/kernels/cuda/activations.h"
#include "weft/kernels/cuda/channel_sums.h"
#include "weft/kernels/cuda/families.h"

namespace weft::kernels::cuda {
namespace {

/// The parameters of a thread's channels: [channel][parameter].
template <class A, int V, class T>
__device__ inline void load_parameters(const LearnedActivationArgs<T>& a, int64_t channel,
                                       float (&to)[V][kLearnedCount<A>]) {
#pragma unroll
  for (int k = 0; k < kLearnedCount<A>; ++k) {
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
  float p[V][kLearnedCount<A>];
  load_parameters<A>(a, at.channel, p);
  for_rows<4>(at.count, at.first, at.step, [&]<int U>(int64_t offset, Rows<U>, auto n) {
    Pack<T, V> rows[U];
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (u < n) rows[u] = load<V>(a.x + offset + u * at.step);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
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
  constexpr int count = kLearnedCount<A>;
  const Place<V> at(t);
  float p[V][count], sums[count][V] = {};
  load_parameters<A>(a, at.channel, p);
  for_rows<2>(at.count, at.first, at.step, [&]<int U>(int64_t offset, Rows<U>, auto n) {
    Pack<T, V> rows[U], grads[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      rows[u] = load<V>(a.x + offset + u * at.step);
      grads[u] = load<V>(dy + offset + u * at.step);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
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

  store_block_sums(t, at, sums, partial);
}

/// Calls f with the struct of a learned activation and V, the neighbours that a thread takes at once.
template <class T, class F>
void choose(const LearnedActivationArgs<T>& a, std::initializer_list<const void*> others, F&& f) {
  const bool wide = a.channels % kWide<T> == 0 &&
                    aligned({a.x, a.parameters[0], a.parameters[1], a.parameters[2], a.parameters[3]}) &&
                    aligned(others);
  static_assert(kMostLearnedParameters == 4);
  with_learned_activation(a.activation, [&]<class A>(A act) {
    wide ? f(act, std::integral_constant<int, kWide<T>>{}) : f(act, std::integral_constant<int, 1>{});
  });
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
    constexpr int count = kLearnedCount<A>;
    const Tiling t = reduce_tiling(a.rows, a.channels, V);
    float* partial = partial_sums<count>(t);
    launch(backward_kernel<T, V, A>, t.grid(), t.block(), act, t, a, dy, dx, partial);
    SumTargets<count> to;
    for (int k = 0; k < count; ++k) to.of[k] = gradients[k];
    combine_sums(t, partial, to);
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
