#include "weft/kernels/cuda/batch_norm_pair.h"

#include "weft/kernels/cuda/batch_norm.h"
#include "weft/kernels/cuda/channel_sums.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kPairBlocks = 2;  // of kApplyThreads: leaves 128 registers a thread

template <class T, int V, class A>
__global__ void __launch_bounds__(kApplyThreads, kPairBlocks)
    pair_forward_kernel(A act, Tiling t, BatchNormArgs<T> a, BatchNormArgs<T> b, T* y) {
  const Place<V> at(t);
  wait_for_earlier();
  if (at.count == 0) return;
  const Affine<T, V> of_a(a, at.channel), of_b(b, at.channel);
  const InHand<A, float> f{act, a.param};
  const int64_t step = -at.step;
  for_rows<kAtOnce<A, T, V, 4>>(at.count, at.last, step, [&]<int U>(int64_t offset, Rows<U>, auto n) {
    Pack<T, V> rows_a[U], rows_b[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      rows_a[u] = load<V>(a.x + offset + u * step);
      rows_b[u] = load<V>(b.x + offset + u * step);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      float v[V], w[V];
      to_floats(rows_a[u], v);
      to_floats(rows_b[u], w);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = value<T>(f, of_a(j, v[j]) + of_b(j, w[j]));
      store(y + offset + u * step, from_floats<T>(v));
    }
  });
}

/// Sums of g (x - mean) of a, of g, and of g (x - mean) of b. partial: as store_block_sums().
template <class T, int V, class A>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    pair_reduce_kernel(A act, Tiling t, BatchNormArgs<T> a, BatchNormArgs<T> b, const T* dy, float* partial) {
  const Place<V> at(t);
  wait_for_earlier();
  const Centered<V> of_a(a, at.channel), of_b(b, at.channel);
  float bias[V];
  {
    float other[V];
    load_floats(a.bias + at.channel, bias);
    load_floats(b.bias + at.channel, other);
#pragma unroll
    for (int j = 0; j < V; ++j) bias[j] += other[j];
  }
  const InHand<A, float> f{act, a.param};
  float sums[3][V] = {};
  for_rows<kAtOnce<A, T, V, 2>>(at.count, at.first, at.step, [&]<int U>(int64_t offset, Rows<U>, auto n) {
    Pack<T, V> rows_a[U], rows_b[U], grads[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      rows_a[u] = load<V>(a.x + offset + u * at.step);
      rows_b[u] = load<V>(b.x + offset + u * at.step);
      grads[u] = load<V>(dy + offset + u * at.step);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      float v[V], w[V], g[V];
      to_floats(rows_a[u], v);
      to_floats(rows_b[u], w);
      to_floats(grads[u], g);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float d = v[j] - of_a.mean[j], e = w[j] - of_b.mean[j];
        g[j] *= slope<T>(f, fmaf(d, of_a.scale[j], fmaf(e, of_b.scale[j], bias[j])));
        sums[0][j] = fmaf(g[j], d, sums[0][j]);
        sums[1][j] += g[j];
        sums[2][j] = fmaf(g[j], e, sums[2][j]);
      }
    }
  });
  store_block_sums(t, at, sums, partial);
}

template <class T, int V, class A>
__global__ void __launch_bounds__(kApplyThreads, kPairBlocks)
    pair_input_kernel(A act, Tiling t, BatchNormArgs<T> a, BatchNormArgs<T> b, const T* dy,
                      BatchNormGradients<T> da, BatchNormGradients<T> db, float per_row) {
  const Place<V> at(t);
  wait_for_earlier();
  if (at.count == 0) return;
  const Affine<T, V> of_a(a, at.channel), of_b(b, at.channel);
  const Through<T, V> through_a(a, of_a, da.weight, da.bias, at.channel, per_row),
      through_b(b, of_b, db.weight, db.bias, at.channel, per_row);
  const InHand<A, float> f{act, a.param};
  const int64_t step = -at.step;
  for_rows<kAtOnce<A, T, V, 2>>(at.count, at.last, step, [&]<int U>(int64_t offset, Rows<U>, auto n) {
    Pack<T, V> rows_a[U], rows_b[U], grads[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      rows_a[u] = load<V>(a.x + offset + u * step);
      rows_b[u] = load<V>(b.x + offset + u * step);
      grads[u] = load<V>(dy + offset + u * step);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u >= n) break;
      float v[V], w[V], g[V];
      to_floats(rows_a[u], v);
      to_floats(rows_b[u], w);
      to_floats(grads[u], g);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        g[j] *= slope<T>(f, of_a(j, v[j]) + of_b(j, w[j]));
        v[j] = fmaf(of_a.scale[j], g[j], through_a(of_a, j, v[j]));
        w[j] = fmaf(of_b.scale[j], g[j], through_b(of_b, j, w[j]));
      }
      store(da.x + offset + u * step, from_floats<T>(v));
      store(db.x + offset + u * step, from_floats<T>(w));
    }
  });
}

Tiling pair_tiling(int64_t rows, int64_t channels, int width) {
  const int lanes = apply_tiling(rows, channels, width).lanes;
  return tiling(rows, channels, width, lanes, kApplyThreads, kPairBlocks, 1);
}

/// Calls f(activation, constant of the elements at once) with the kernels to take.
template <class T, class F>
void choose(const BatchNormArgs<T>& a, const BatchNormArgs<T>& b, std::initializer_list<const void*> others,
            F&& f) {
  const bool wide = a.channels % kWide<T> == 0 && aligned({a.x, a.mean, a.invstd, a.weight, a.bias}) &&
                    aligned({b.x, b.mean, b.invstd, b.weight, b.bias}) && aligned(others);
  if (!wide) return f(AnyActivation{a.activation}, std::integral_constant<int, 1>{});
  with_activation(a.activation, [&](auto act) { f(act, std::integral_constant<int, kWide<T>>{}); });
}

}  // namespace

template <class T>
void batch_norm_pair_forward(const BatchNormArgs<T>& a, const BatchNormArgs<T>& b, T* y) {
  if (a.rows == 0 || a.channels == 0) return;
  choose(a, b, {y}, [&]<class A, int V>(A act, std::integral_constant<int, V>) {
    const Tiling t = pair_tiling(a.rows, a.channels, V);
    launch_early(pair_forward_kernel<T, V, A>, t.grid(), t.block(), act, t, a, b, y);
  });
}

template <class T>
void batch_norm_pair_backward(const BatchNormArgs<T>& a, const BatchNormArgs<T>& b, const T* dy,
                              const BatchNormGradients<T>& da, const BatchNormGradients<T>& db) {
  if (a.rows == 0 || a.channels == 0) return;
  choose(a, b, {dy, da.x, db.x, da.weight, da.bias, db.weight, db.bias},
         [&]<class A, int V>(A act, std::integral_constant<int, V>) {
           const Tiling t = reduce_tiling(a.rows, a.channels, V);
           float* partial = partial_sums<3>(t);
           launch_early(pair_reduce_kernel<T, V, A>, t.grid(), t.block(), act, t, a, b, dy, partial);
           combine_sums(t, partial,
                        SumTargets<3>{.of = {da.weight, da.bias, db.weight},
                                      .scale = {a.invstd, nullptr, b.invstd},
                                      .also = {nullptr, db.bias, nullptr}});
           const Tiling u = pair_tiling(a.rows, a.channels, V);
           launch_early(pair_input_kernel<T, V, A>, u.grid(), u.block(), act, u, a, b, dy, da, db,
                        float(1 / double(a.rows)));
         });
}

#define WEFT_INSTANTIATE(T)                                                                          \
  template void batch_norm_pair_forward(const BatchNormArgs<T>&, const BatchNormArgs<T>&, T*);       \
  template void batch_norm_pair_backward(const BatchNormArgs<T>&, const BatchNormArgs<T>&, const T*, \
                                         const BatchNormGradients<T>&, const BatchNormGradients<T>&);
WEFT_INSTANTIATE(float)
WEFT_INSTANTIATE(bf16)
WEFT_INSTANTIATE(f16)
#undef WEFT_INSTANTIATE

}  // namespace weft::kernels::cuda
