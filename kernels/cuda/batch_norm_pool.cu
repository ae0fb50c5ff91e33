// Windows are 3x3, their stride 2, their padding 1. Where x takes X bytes, in 16 bits, an output takes X / 4.
// Forward reads X and writes 5/8 X: outputs, x at the maxima, and the maxima's places in their windows, a
// byte each. Backward reads 1/2 X and writes 1/4 X for the sums, over the outputs alone, and reads 11/8 X and
// writes X for x's gradient: 4 3/4 X in all. With a tensor between batch norm and pool and an index of 4
// bytes it is 10 1/2 X.
#include "weft/kernels/cuda/batch_norm_pool.h"

#include <limits>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/batch_norm.h"
#include "weft/kernels/cuda/channel_sums.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPoolBlocks = 2;  // that a multiprocessor shall hold at once: leaves 128 registers a thread
constexpr int kCells = 9;       // pixels under a window

struct Geometry {
  unsigned images;
  int in_h, in_w, out_h, out_w, channels;
  int groups;           // of channels that a thread makes together
  int in_row, out_row;  // elements of a row of an image
  int64_t in_image;     // of an image

  Geometry(const Pool2dParams& p, int width)
      : images(unsigned(p.batch)),
        in_h(int(p.in_h)),
        in_w(int(p.in_w)),
        out_h(int(p.out_h)),
        out_w(int(p.out_w)),
        channels(int(p.channels)),
        groups(int(p.channels / width)),
        in_row(int(p.in_w * p.channels)),
        out_row(int(p.out_w * p.channels)),
        in_image(p.in_h * p.in_w * p.channels) {
    if (p.in_w * p.channels >> 28 || p.batch * p.in_h >> 31)
      throw Error(
          "batch_norm_max_pool: no more than 2^28 elements in a row of an image, and 2^31 rows, are "
          "possible");
  }
};

// A thread has some neighbouring channels in one column of each image's windows, or of its squares of 2x2
// pixels, so that what belongs to the channels stays in registers. It takes two rows at a time, which share
// input, beginning with the last ones: the kernel before read them last, and the L2 cache may still have
// them.

/// The column of a thread; x of the blocks and threads counts groups of channels of all columns.
struct Column {
  int number, group;
  bool there;

  __device__ Column(int columns, int groups) {
    const unsigned item = blockIdx.x * blockDim.x + threadIdx.x;
    there = item < unsigned(columns) * unsigned(groups);
    number = int(item / unsigned(groups));
    group = int(item - unsigned(number) * unsigned(groups));
  }
};
/// Calls f(image, row) for the thread's rows, of which each image has `height`.
template <class F>
__device__ inline void for_rows_back(unsigned images, int height, F&& f) {
  const unsigned pairs = unsigned(height + 1) / 2, all = images * pairs, apart = gridDim.y * blockDim.y;
  for (unsigned before = blockIdx.y * blockDim.y + threadIdx.y; before < all; before += apart) {
    const unsigned pair = all - 1 - before, n = pair / pairs;
    const int row = 2 * int(pair - n * pairs);
#pragma unroll 1
    for (int r = min(row + 1, height - 1); r >= row; --r) f(n, r);
  }
}
template <class... Params, class... Args>
void launch_columns(void (*kernel)(Params...), const Geometry& g, int height, int width, Args... args) {
  const int64_t items = int64_t(width) * g.groups, pairs = int64_t(g.images) * ((height + 1) / 2);
  if (items == 0 || pairs == 0) return;
  const unsigned x = items < kThreads ? unsigned(items) : kThreads, y = kThreads / x;
  const unsigned across = blocks_for(items, x);
  const int64_t most = int64_t(multiprocessors()) * kPoolBlocks / across;
  launch_early(kernel, dim3(across, blocks_for(pairs, y, std::clamp<int64_t>(most, 1, 65535))), dim3(x, y),
               args...);
}

// --- forward ---

/// The pixels under a window, V channels of each, in scan order. What it has outside of the image comes as
/// the nearest pixel inside, so that loads need no branches.
template <class T>
struct Window {
  const Geometry& g;
  int top, left, first_h, first_w;
  const T* first;  // the first pixel inside

  __device__ Window(const Geometry& g, const T* image, int oh, int ow)
      : g(g), top(2 * oh - 1), left(2 * ow - 1), first_h(max(top, 0)), first_w(max(left, 0)) {
    first = image + int64_t(first_h) * g.in_row + first_w * g.channels;
  }
  __device__ const T* operator[](int i) const {
    const int down = min(max(top + i / 3, 0), g.in_h - 1) - first_h,
              right = min(max(left + i % 3, 0), g.in_w - 1) - first_w;
    const unsigned bytes =
        (unsigned(down) * unsigned(g.in_row) + unsigned(right) * unsigned(g.channels)) * unsigned(sizeof(T));
    return reinterpret_cast<const T*>(reinterpret_cast<const char*>(first) + bytes);  // two instructions
  }
  __device__ bool inside(int i) const {
    return unsigned(top + i / 3) < unsigned(g.in_h) && unsigned(left + i % 3) < unsigned(g.in_w);
  }
};

/// The maxima of a window, their places there, and x at them.
template <class T, int V>
struct Maxima {
  Pack<T, V> y, x;
  Pack<uint8_t, V> at;
};

/// As max_pool2d() finds them, the first of equals and the last NaN: with an activation of each pixel. `N`
/// pixels on their way at once.
template <int N, class T, int V, class F>
__device__ inline Maxima<T, V> search(const Window<T>& window, const Affine<T, V>& affine, const F& f) {
  float best[V], x[V];
  int at[V];
#pragma unroll
  for (int j = 0; j < V; ++j) best[j] = x[j] = 0, at[j] = -1;
#pragma unroll 1
  for (int begin = 0; begin < kCells; begin += N) {
    Pack<T, V> cells[N];
#pragma unroll
    for (int i = 0; i < N; ++i) cells[i] = load<V>(window[begin + i]);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (!window.inside(begin + i)) continue;
      float v[V];
      to_floats(cells[i], v);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float value = f.forward(affine(j, v[j]));
        if (at[j] < 0 || value > best[j] || value != value) {
          best[j] = value;
          x[j] = v[j];
          at[j] = begin + i;
        }
      }
    }
  }
  Maxima<T, V> found{from_floats<T>(best), from_floats<T>(x), {}};
#pragma unroll
  for (int j = 0; j < V; ++j) found.at.v[j] = uint8_t(at[j]);
  return found;
}

// Two values of 16 bits in a register.

/// The larger and the smaller ones; NaN where either is.
template <class T>
__device__ inline uint32_t larger(uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, bf16>)
    asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  else
    asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  return a;
#else
  const Held<T, 2> p{{a}}, q{{b}};
  float v[2], w[2];
  p.get(v), q.get(w);
  for (int e = 0; e < 2; ++e)
    if (w[e] > v[e] || w[e] != w[e]) v[e] = w[e];
  Held<T, 2> to{};
  to.set(0, v);
  return to.pairs[0];
#endif
}
template <class T>
__device__ inline uint32_t smaller(uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, bf16>)
    asm("min.NaN.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  else
    asm("min.NaN.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  return a;
#else
  constexpr uint32_t kSigns = 0x80008000u;
  return larger<T>(a ^ kSigns, b ^ kSigns) ^ kSigns;
#endif
}
/// All bits of the values that are equal.
template <class T>
__device__ inline uint32_t equal(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (std::is_same_v<T, bf16>)
    asm("set.eq.u32.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  else
    asm("set.eq.u32.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  return a;
#else
  const uint32_t x = a ^ b, differ = (((x & 0x7fff7fffu) + 0x7fff7fffu) | x) & 0x80008000u;
  return ~(differ | (differ - (differ >> 15)));
#endif
}

/// The same with two activations for each channel. identity, relu, mish and silu fall, if at all, below one
/// point, and rise above it, and z rises or falls with x all the way: so the maximum is at the largest or at
/// the smallest x of a window. False where all must be looked at: values that are not finite, or a slope of
/// 0, with which the first pixel counts.
template <class T, int V, class F>
__device__ inline bool search_ends(const Window<T>& window, const Affine<T, V>& affine, float slopes,
                                   const F& f, Held<T, V>& y, Held<T, V>& x, Pack<uint8_t, V>& at) {
  Held<T, V> cells[kCells];
#pragma unroll
  for (int i = 0; i < kCells; ++i) cells[i] = Held<T, V>::from(window[i]);
  float check = slopes;
#pragma unroll
  for (int k = 0; k < V / 2; ++k) {
    uint32_t low = cells[0].pairs[k], high = low;
#pragma unroll
    for (int i = 1; i < kCells; ++i) {
      low = smaller<T>(low, cells[i].pairs[k]);
      high = larger<T>(high, cells[i].pairs[k]);
    }
    float best[2], from_low[2];
    Held<T, 2>{{low}}.get(from_low);
    Held<T, 2>{{high}}.get(best);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float z = affine(2 * k + e, best[e]), of_high = f.forward(z),
                  of_low = f.forward(affine(2 * k + e, from_low[e]));
      check += z;
      from_low[e] = of_low > of_high ? from_low[e] : best[e];
      best[e] = of_low > of_high ? of_low : of_high;
    }
    y.set(k, best);
    x.set(k, from_low);
    uint32_t places = 0;
#pragma unroll
    for (int i = kCells - 1; i >= 0; --i) {
      // What comes twice is found where it lies, below or to the right.
      if ((i < 3 && window.top < 0) || (i % 3 == 0 && window.left < 0)) continue;
      const uint32_t here = equal<T>(cells[i].pairs[k], x.pairs[k]);
      places = (here & (uint32_t(i) * 0x10001u)) | (~here & places);
    }
    at.v[2 * k] = uint8_t(places);
    at.v[2 * k + 1] = uint8_t(places >> 16);
  }
  return check - check == 0;
}

template <class T, int V, class A>
__global__ void __launch_bounds__(kThreads, kPoolBlocks)
    pool_forward_kernel(A act, Geometry g, BatchNormArgs<T> a, T* __restrict__ y, uint8_t* __restrict__ at,
                        T* __restrict__ x_at) {
  wait_for_earlier();
  const Column column(g.out_w, g.groups);
  if (!column.there) return;
  const int channel = column.group * V;
  const Affine<T, V> affine(a, channel);
  const InHand<A, float> f{act, a.param};
  constexpr bool ends = sizeof(T) == 2 && V == kWide<T>;
  float slopes = 0;  // infinite where one is 0
#pragma unroll
  for (int j = 0; j < V; ++j)
    if (affine.scale[j] == 0) slopes = std::numeric_limits<float>::infinity();
  for_rows_back(g.images, g.out_h, [&](unsigned n, int oh) {
    const Window<T> window(g, a.x + n * g.in_image + channel, oh, column.number);
    const int64_t out = (int64_t(n) * g.out_h + oh) * g.out_row + column.number * g.channels + channel;
    if constexpr (ends) {
      Held<T, V> to, from;
      Pack<uint8_t, V> places;
      if (search_ends(window, affine, slopes, f, to, from, places)) {
        to.store(y + out);
        from.store(x_at + out);
        return store(at + out, places);
      }
    }
    const auto found = search < ends || V == 1 ? 1 : kCells > (window, affine, f);
    store(y + out, found.y);
    store(x_at + out, found.x);
    store(at + out, found.at);
  });
}

// --- backward ---

/// Sums of g (x - mean) and of g over the outputs; writes g. partial: as store_block_sums().
template <class T, int V, class A>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    pool_reduce_kernel(A act, Tiling t, BatchNormArgs<T> maxima, const T* dy, T* g, float* partial) {
  const Place<V> at(t);
  wait_for_earlier();
  float sums[2][V] = {};
  sum_rows<Residual::perhaps>(act, at, maxima, dy, g, sums);
  store_block_sums(t, at, sums, partial);
}

/// The gradient of 2x2 pixels from (2i, 2j) on. They lie in the windows (i, j), (i, j + 1), (i + 1, j) and
/// (i + 1, j + 1), of which the later ones reach only the later pixels.
template <class T, int V>
__global__ void __launch_bounds__(kThreads, kPoolBlocks)
    pool_input_kernel(Geometry g, BatchNormArgs<T> a, const T* gradients, const uint8_t* at,
                      BatchNormGradients<T> d, float per_row) {
  wait_for_earlier();
  const Column column((g.in_w + 1) / 2, g.groups);
  if (!column.there) return;
  const int channel = column.group * V, j = column.number;
  const Affine<T, V> affine(a, channel);
  const Through<T, V> through(a, affine, d.weight, d.bias, channel, per_row);
  for_rows_back(g.images, (g.in_h + 1) / 2, [&](unsigned n, int i) {
    // What is outside comes as what lies before it: pixels that are not written, windows without a maximum.
    const bool below = i + 1 < g.out_h, right = j + 1 < g.out_w, lower = 2 * i + 1 < g.in_h,
               later = 2 * j + 1 < g.in_w;
    const int64_t pixel = n * g.in_image + int64_t(2 * i) * g.in_row + (2 * j * g.channels + channel),
                  window = (int64_t(n) * g.out_h + i) * g.out_row + (j * g.channels + channel);
    const unsigned pixel_down = lower ? g.in_row : 0, pixel_on = later ? g.channels : 0,
                   window_down = below ? g.out_row : 0, window_on = right ? g.channels : 0;
    Pack<T, V> pixels[2][2], from[2][2];
    Pack<uint8_t, V> places[2][2];
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        pixels[r][s] = load<V>(a.x + pixel + (r * pixel_down + s * pixel_on));
        from[r][s] = load<V>(gradients + window + (r * window_down + s * window_on));
        places[r][s] = load<V>(at + window + (r * window_down + s * window_on));
        if ((r == 0 || below) && (s == 0 || right)) continue;
#pragma unroll
        for (int c = 0; c < V; ++c) places[r][s].v[c] = kCells;
      }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sums[2][V] = {};
#pragma unroll
      for (int p = 0; p <= r; ++p)
#pragma unroll
        for (int q = 0; q < 2; ++q) {
          float v[V];
          to_floats(from[p][q], v);
#pragma unroll
          for (int s = q; s < 2; ++s)
#pragma unroll
            for (int c = 0; c < V; ++c)
              sums[s][c] += places[p][q].v[c] == (r + 1 - 2 * p) * 3 + s + 1 - 2 * q ? v[c] : 0;
        }
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        if ((r == 1 && !lower) || (s == 1 && !later)) continue;
        float v[V];
        to_floats(pixels[r][s], v);
#pragma unroll
        for (int c = 0; c < V; ++c) v[c] = fmaf(affine.scale[c], sums[s][c], through(affine, c, v[c]));
        store(d.x + pixel + (r * pixel_down + s * pixel_on), from_floats<T>(v));
      }
    }
  });
}

}  // namespace

// --- table entries ---

bool has_batch_norm_max_pool(const Pool2dParams& p, Activation act) {
  return has_own_kernels(act) && p.kernel_h == 3 && p.kernel_w == 3 && p.stride_h == 2 && p.stride_w == 2 &&
         p.pad_h == 1 && p.pad_w == 1;
}

template <class T>
void batch_norm_max_pool_forward(const BatchNormArgs<T>& a, const Pool2dParams& p, T* y, uint8_t* at,
                                 T* x_at) {
  with_own_kernels(a, {y, at, x_at}, [&]<class A, int V>(A act, std::integral_constant<int, V>) {
    const Geometry g(p, V);
    launch_columns(pool_forward_kernel<T, V, A>, g, g.out_h, g.out_w, act, g, a, y, at, x_at);
  });
}

template <class T>
void batch_norm_max_pool_backward(const BatchNormArgs<T>& a, const Pool2dParams& p, const T* dy,
                                  const uint8_t* at, const T* x_at, T* g, const BatchNormGradients<T>& d) {
  if (a.rows == 0 || a.channels == 0) return;
  with_own_kernels(
      a, {dy, at, x_at, g, d.x, d.weight, d.bias},
      [&]<class A, int V>(A act, std::integral_constant<int, V>) {
        BatchNormArgs<T> maxima = a;
        maxima.x = x_at, maxima.rows = p.batch * p.out_h * p.out_w;
        const Tiling t = reduce_tiling(maxima.rows, a.channels, V);
        float* partial = partial_sums<2>(t);
        launch_early(pool_reduce_kernel<T, V, A>, t.grid(), t.block(), act, t, maxima, dy, g, partial);
        combine_sums(t, partial, SumTargets<2>{.of = {d.weight, d.bias}, .scale = {a.invstd, nullptr}});
        const Geometry geometry(p, V);
        launch_columns(pool_input_kernel<T, V>, geometry, (geometry.in_h + 1) / 2, (geometry.in_w + 1) / 2,
                       geometry, a, g, at, d, float(1 / double(a.rows)));
      });
}

#define WEFT_INSTANTIATE(T)                                                                                  \
  template void batch_norm_max_pool_forward(const BatchNormArgs<T>&, const Pool2dParams&, T*, uint8_t*, T*); \
  template void batch_norm_max_pool_backward(const BatchNormArgs<T>&, const Pool2dParams&, const T*,         \
                                             const uint8_t*, const T*, T*, const BatchNormGradients<T>&);
WEFT_INSTANTIATE(float)
WEFT_INSTANTIATE(bf16)
WEFT_INSTANTIATE(f16)
#undef WEFT_INSTANTIATE

}  // namespace weft::kernels::cuda
