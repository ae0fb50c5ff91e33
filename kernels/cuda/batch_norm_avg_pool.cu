// A thread has some neighbouring channels of windows of 2x2 pixels, which hang over nowhere. Where x takes X
// bytes, forward reads 2 X and writes 5/4 X, and the backward's sums read 13/4 X and write X: the averages
// would cost 5/4 X more forward, and their gradients 13/4 X more backward.
#include "weft/kernels/cuda/batch_norm_avg_pool.h"

#include "weft/kernels/cuda/batch_norm.h"
#include "weft/kernels/cuda/channel_sums.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kForwardBlocks = 2;  // that a multiprocessor shall hold at once: leaves 128 registers a thread

/// The windows of a thread, and offsets of their pixels.
template <int V>
struct Windows {
  Place<V> at;  // in [windows, channels]
  int number, apart;
  Divisor in_row;  // windows
  int64_t channels, down;

  __device__ Windows(const Tiling& t, const Divisor& in_row)
      : at(t),
        number(int(blockIdx.y) * t.lane_rows + at.lane_row),
        apart(int(gridDim.y) * t.lane_rows),
        in_row(in_row),
        channels(t.channels),
        down(2 * int64_t(in_row.d) * t.channels) {}
  /// f(offset of the window, offsets of its pixels), the last one first where it is `back`.
  template <bool back, class F>
  __device__ void each(F&& f) const {
    for (int i = 0; i < at.count; ++i) {
      const int window = number + (back ? at.count - 1 - i : i) * apart,
                row = int(in_row.divide(uint32_t(window)));
      // Above it lie whole pairs of rows, and left of it pairs of pixels.
      const int64_t first =
          int64_t(row) * 2 * down + int64_t(window - row * int(in_row.d)) * 2 * channels + at.channel;
      const int64_t pixels[4] = {first, first + channels, first + down, first + down + channels};
      f(window * channels + at.channel, pixels);
    }
  }
};

template <class T, int V, class A>
__global__ void __launch_bounds__(kApplyThreads, kForwardBlocks)
    avg_pool_forward_kernel(A act, Tiling t, BatchNormArgs<T> a, Divisor in_row, T* y, T* pooled) {
  const Windows<V> windows(t, in_row);
  wait_for_earlier();
  if (windows.at.count == 0) return;
  const Affine<T, V> affine(a, windows.at.channel);
  const InHand<A, float> f{act, a.param};
  windows.template each<true>([&](int64_t window, const int64_t(&pixels)[4]) {
    using Row = Held<T, V>;
    Row rows[4], residual[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      rows[k] = Row::from(a.x + pixels[k]);
      residual[k] = Row::from(a.residual + pixels[k]);
    }
    float sum[V] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float v[V], r[V];
      rows[k].get(v);
      residual[k].get(r);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        v[j] = value<T>(f, affine(j, v[j]) + r[j]);
        sum[j] += v[j];
      }
      store(y + pixels[k], from_floats<T>(v));
    }
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] *= 0.25f;
    store(pooled + window, from_floats<T>(sum));
  });
}

template <class T, int V, class A>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    avg_pool_reduce_kernel(A act, Tiling t, BatchNormArgs<T> a, Divisor in_row, const T* dy, const T* dpooled,
                           T* g, float* partial) {
  const Windows<V> windows(t, in_row);
  wait_for_earlier();
  float sums[2][V] = {};  // of g (x - mean), of g
  const Centered<V> centered(a, windows.at.channel);
  float bias[V];
  load_floats(a.bias + windows.at.channel, bias);
  const InHand<A, float> f{act, a.param};
  windows.template each<false>([&](int64_t window, const int64_t(&pixels)[4]) {
    using Row = Held<T, V>;
    Row rows[4], grads[4], residual[4];
    const Row from = Row::from(dpooled + window);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      rows[k] = Row::from(a.x + pixels[k]);
      grads[k] = Row::from(dy + pixels[k]);
      residual[k] = Row::from(a.residual + pixels[k]);
    }
    float shared[V];
    from.get(shared);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float v[V], gs[V], r[V];
      rows[k].get(v);
      grads[k].get(gs);
      residual[k].get(r);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float d = v[j] - centered.mean[j];
        gs[j] = fmaf(shared[j], 0.25f, gs[j]) * slope<T>(f, fmaf(d, centered.scale[j], bias[j]) + r[j]);
        sums[0][j] = fmaf(gs[j], d, sums[0][j]);
        sums[1][j] += gs[j];
      }
      store(g + pixels[k], from_floats<T>(gs));
    }
  });
  store_block_sums(t, windows.at, sums, partial);
}

int64_t windows_of(const Pool2dParams& p) { return p.batch * p.out_h * p.out_w; }
Divisor in_row_of(const Pool2dParams& p) { return Divisor(uint32_t(std::max<int64_t>(p.out_w, 1))); }

}  // namespace

bool has_batch_norm_avg_pool(const Pool2dParams& p, Activation act) {
  return has_own_kernels(act) && p.kernel_h == 2 && p.kernel_w == 2 && p.stride_h == 2 && p.stride_w == 2 &&
         p.pad_h == 0 && p.pad_w == 0 && p.in_h % 2 == 0 && p.in_w % 2 == 0 && windows_of(p) >> 31 == 0;
}

template <class T>
void batch_norm_avg_pool_forward(const BatchNormArgs<T>& a, const Pool2dParams& p, T* y, T* pooled) {
  if (a.rows == 0 || a.channels == 0) return;
  with_own_kernels(a, {y, pooled}, [&]<class A, int V>(A act, std::integral_constant<int, V>) {
    const Tiling t = apply_tiling(windows_of(p), a.channels, V, 1, kForwardBlocks);
    launch_early(avg_pool_forward_kernel<T, V, A>, t.grid(), t.block(), act, t, a, in_row_of(p), y, pooled);
  });
}

template <class T>
void batch_norm_avg_pool_backward_reduce(const BatchNormArgs<T>& a, const Pool2dParams& p, const T* dy,
                                         const T* dpooled, T* g, float* dweight, float* dbias) {
  if (a.channels == 0) return;
  with_own_kernels(a, {dy, dpooled, g}, [&]<class A, int V>(A act, std::integral_constant<int, V>) {
    const Tiling t = reduce_tiling(windows_of(p), a.channels, V);
    float* partial = partial_sums<2>(t);
    launch_early(avg_pool_reduce_kernel<T, V, A>, t.grid(), t.block(), act, t, a, in_row_of(p), dy, dpooled,
                 g, partial);
    combine_sums(t, partial, SumTargets<2>{.of = {dweight, dbias}, .scale = {a.invstd, nullptr}});
  });
}

#define WEFT_INSTANTIATE(T)                                                                                 \
  template void batch_norm_avg_pool_forward(const BatchNormArgs<T>&, const Pool2dParams&, T*, T*);          \
  template void batch_norm_avg_pool_backward_reduce(const BatchNormArgs<T>&, const Pool2dParams&, const T*, \
                                                    const T*, T*, float*, float*);
WEFT_INSTANTIATE(float)
WEFT_INSTANTIATE(bf16)
WEFT_INSTANTIATE(f16)
#undef WEFT_INSTANTIATE

}  // namespace weft::kernels::cuda
