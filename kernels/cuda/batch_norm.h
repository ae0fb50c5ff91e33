// The passes of batch norm along the rows, with an activation A, fixed or learned. Each thread owns the same
// few neighbouring channels in all its rows, so that what belongs to the channels stays in registers. Kernels
// that read what another has just read or written walk the rows the other way round: the rows touched last
// are the ones that the L2 cache still has.
#pragma once

#include <type_traits>

#include "weft/kernels/activation_in_hand.h"
#include "weft/kernels/cuda/activations.h"
#include "weft/kernels/cuda/channels.h"

namespace weft::kernels::cuda {

// The table's entries where the activation is learned (batch_norm_learned.cu).
template <class T>
void batch_norm_learned_forward(const BatchNormArgs<T>& a, T* y);
template <class T>
void batch_norm_learned_backward_reduce(const BatchNormArgs<T>& a, const T* dy, T* g, float* dweight,
                                        float* dbias, float* const* gradients);
template <class T>
void batch_norm_learned_backward_input(const BatchNormArgs<T>& a, const T* dy, const float* dweight,
                                       const float* dbias, bool training, T* dx);

/// Whether kernels are made for the activation itself.
inline bool has_own_kernels(Activation act) {
  bool own = false;
  with_activation(act, [&]<class A>(A) { own = !std::is_same_v<A, AnyActivation>; });
  return own;
}
/// Calls f(activation, constant of the elements at once) with the kernels to take for one that has its own.
template <class T, class F>
void with_own_kernels(const BatchNormArgs<T>& a, std::initializer_list<const void*> others, F&& f) {
  const bool wide = a.channels % kWide<T> == 0 &&
                    aligned({a.x, a.mean, a.invstd, a.weight, a.bias, a.residual}) && aligned(others);
  if (!wide) return f(AnyActivation{a.activation}, std::integral_constant<int, 1>{});
  with_activation(a.activation, [&]<class A>(A act) {
    if constexpr (!std::is_same_v<A, AnyActivation>) f(act, std::integral_constant<int, kWide<T>>{});
  });
}

/// Whether a kernel adds a residual, and writes g in the backward: known when it is compiled (both, or
/// neither), or seen as it runs.
enum class Residual { none, some, perhaps };
template <Residual R, class T>
__device__ inline bool adds_residual(const BatchNormArgs<T>& a) {
  return R == Residual::some || (R == Residual::perhaps && a.residual);
}

/// Rows at once: `hot` where V elements are 16 bytes, more where they are fewer; one where calls of any
/// activation would push what is kept out of registers.
template <class A, class T, int V, int hot>
constexpr int kAtOnce = std::is_same_v<A, AnyActivation> ? 1
                        : V == 1                         ? hot
                                                         : hot* kWide<T> / V;

/// The activation of V neighbouring channels.
template <class A, int V>
struct ChannelActivations {
  InHand<A, float> all;
  template <class T>
  __device__ ChannelActivations(A act, const BatchNormArgs<T>& a, int64_t) : all{act, a.param} {}
  __device__ const InHand<A, float>& operator[](int) const { return all; }
};
template <class A, int V>
requires(kLearnedCount<A> > 0) struct ChannelActivations<A, V> {
  InHand<A, float> of[V];
  template <class T>
  __device__ ChannelActivations(A, const BatchNormArgs<T>& a, int64_t channel) {
#pragma unroll
    for (int k = 0; k < kLearnedCount<A>; ++k) {
      float values[V];
      load_floats(a.parameters[k] + channel, values);
#pragma unroll
      for (int j = 0; j < V; ++j) of[j].p[k] = values[j];
    }
  }
  __device__ const InHand<A, float>& operator[](int j) const { return of[j]; }
};

/// z without the residual. For 16-bit x it is x * scale + shift; what that loses where the mean is large, x
/// has lost already. float keeps the mean apart.
template <class T, int V>
struct Affine {
  static constexpr bool kShift = sizeof(T) == 2;
  float scale[V], shift[V], mean[V];

  __device__ Affine(const BatchNormArgs<T>& a, int64_t channel) {
    float invstd[V];
    load_floats(a.mean + channel, mean);
    load_floats(a.invstd + channel, invstd);
    load_floats(a.weight + channel, scale);
    load_floats(a.bias + channel, shift);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      scale[j] *= invstd[j];
      if (kShift) shift[j] = fmaf(-mean[j], scale[j], shift[j]);
    }
  }
  __device__ float operator()(int j, float x) const {
    return fmaf(kShift ? x : x - mean[j], scale[j], shift[j]);
  }
};

template <class T, int V, class A, Residual R>
__global__ void __launch_bounds__(kApplyThreads, kApplyBlocks)
    batch_norm_forward_kernel(A act, Tiling t, BatchNormArgs<T> a, T* y) {
  const Place<V> at(t);
  wait_for_earlier();
  if (at.count == 0) return;
  const Affine<T, V> affine(a, at.channel);
  const ChannelActivations<A, V> f(act, a, at.channel);
  const int64_t step = -at.step;
  for_rows<kAtOnce<A, T, V, R == Residual::none ? 4 : 2>>(
      at.count, at.last, step, [&]<int U>(int64_t offset, Rows<U>, auto n) {
        Pack<T, V> rows[U], residual[U];
#pragma unroll
        for (int u = 0; u < U; ++u) {
          if (u >= n) break;
          rows[u] = load<V>(a.x + offset + u * step);
          if (adds_residual<R>(a)) residual[u] = load<V>(a.residual + offset + u * step);
        }
#pragma unroll
        for (int u = 0; u < U; ++u) {
          if (u >= n) break;
          float v[V], r[V];
          to_floats(rows[u], v);
          if (adds_residual<R>(a)) to_floats(residual[u], r);
#pragma unroll
          for (int j = 0; j < V; ++j) {
            v[j] = affine(j, v[j]);
            if (adds_residual<R>(a)) v[j] += r[j];
            v[j] = value<T>(f[j], v[j]);
          }
          store(y + offset + u * step, from_floats<T>(v));
        }
      });
}

/// z about the mean, as float needs it and sums of x - mean do: (x - mean) * scale, to which the bias comes.
template <int V>
struct Centered {
  float mean[V], scale[V];

  template <class T>
  __device__ Centered(const BatchNormArgs<T>& a, int64_t channel) {
    float invstd[V];
    load_floats(a.mean + channel, mean);
    load_floats(a.invstd + channel, invstd);
    load_floats(a.weight + channel, scale);
#pragma unroll
    for (int j = 0; j < V; ++j) scale[j] *= invstd[j];
  }
};

/// Sums that a channel has: of g * (x - mean), of g, of dy times the slope in each learned parameter.
template <class A>
constexpr int kSums = 2 + kLearnedCount<A>;

/// Adds up a thread's rows, and writes g.
template <Residual R, class T, int V, class A>
__device__ inline void sum_rows(A act, const Place<V>& at, const BatchNormArgs<T>& a, const T* dy, T* g,
                                float (&sums)[kSums<A>][V]) {
  const Centered<V> centered(a, at.channel);
  float bias[V];
  load_floats(a.bias + at.channel, bias);
  const ChannelActivations<A, V> f(act, a, at.channel);
  constexpr int hot = R == Residual::none ? 3 : 2, kAhead = kAtOnce<A, T, V, hot>;
  using Row = Held<T, V>;
  Row rows[kAhead], grads[kAhead], residual[kAhead]{};
  for_rows_ahead<kAhead>(
      at.count, at.first, at.step,
      [&](int u, int64_t offset) {
        rows[u] = Row::from(a.x + offset);
        grads[u] = Row::from(dy + offset);
        if (adds_residual<R>(a)) residual[u] = Row::from(a.residual + offset);
      },
      [&](int u, int64_t offset) {
        float v[V], gs[V], r[V];
        rows[u].get(v);
        grads[u].get(gs);
        if (adds_residual<R>(a)) residual[u].get(r);
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const float d = v[j] - centered.mean[j];
          float z = fmaf(d, centered.scale[j], bias[j]);
          if (adds_residual<R>(a)) z += r[j];
          if constexpr (kLearnedCount < A >> 0) {
            float slopes[kLearnedCount<A>];
            f[j].gradients(z, slopes);
#pragma unroll
            for (int k = 0; k < kLearnedCount<A>; ++k)
              sums[2 + k][j] = fmaf(gs[j], slopes[k], sums[2 + k][j]);
          }
          gs[j] *= slope<T>(f[j], z);
          sums[1][j] += gs[j];
          sums[0][j] = fmaf(gs[j], d, sums[0][j]);
        }
        if (R == Residual::some || (R == Residual::perhaps && g)) store(g + offset, from_floats<T>(gs));
      });
}

/// What of x's gradient goes through the batch's statistics: slope x + offset, which comes to scale g.
template <class T, int V>
struct Through {
  float slope[V], offset[V];

  __device__ Through(const BatchNormArgs<T>& a, const Affine<T, V>& affine, const float* dweight,
                     const float* dbias, int64_t channel, float per_row) {
    float invstd[V], mean[V];
    load_floats(dweight + channel, slope);
    load_floats(dbias + channel, offset);
    load_floats(a.invstd + channel, invstd);
    load_floats(a.mean + channel, mean);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float scale = -affine.scale[j] * per_row;
      slope[j] *= scale * invstd[j];
      offset[j] *= scale;
      if (Affine<T, V>::kShift) offset[j] = fmaf(-slope[j], mean[j], offset[j]);
    }
  }
  __device__ Through() : slope{}, offset{} {}
  __device__ float operator()(const Affine<T, V>& affine, int j, float x) const {
    return fmaf(Affine<T, V>::kShift ? x : x - affine.mean[j], slope[j], offset[j]);
  }
};

template <class T, int V, class A, Residual R>
__global__ void __launch_bounds__(kApplyThreads, kApplyBlocks)
    batch_norm_input_kernel(A act, Tiling t, BatchNormArgs<T> a, const T* dy, const float* dweight,
                            const float* dbias, bool training, float per_row, T* dx) {
  const Place<V> at(t);
  wait_for_earlier();
  if (at.count == 0) return;
  const Affine<T, V> affine(a, at.channel);
  const ChannelActivations<A, V> f(act, a, at.channel);
  Through<T, V> through;
  if (training) through = Through<T, V>(a, affine, dweight, dbias, at.channel, per_row);
  const int64_t step = -at.step;
  constexpr int learned = kLearnedCount<A>;
  constexpr int at_once = learned > 0 ? 2 : kAtOnce<A, T, V, 2>;  // with more registers would be spilled
  for_rows<at_once>(at.count, at.last, step, [&]<int U>(int64_t offset, Rows<U>, auto n) {
    Pack<T, V> rows[U], grads[U], residual[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      rows[u] = load<V>(a.x + offset + u * step);
      grads[u] = load<V>(dy + offset + u * step);
      if (adds_residual<R>(a)) residual[u] = load<V>(a.residual + offset + u * step);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      float v[V], gs[V], r[V];
      to_floats(rows[u], v);
      to_floats(grads[u], gs);
      if (adds_residual<R>(a)) to_floats(residual[u], r);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        float z = affine(j, v[j]);
        if (adds_residual<R>(a)) z += r[j];
        const float g = gs[j] * slope<T>(f[j], z);
        gs[j] = fmaf(affine.scale[j], g, training ? through(affine, j, v[j]) : 0);
      }
      store(dx + offset + u * step, from_floats<T>(gs));
    }
  });
}

}  // namespace weft::kernels::cuda
