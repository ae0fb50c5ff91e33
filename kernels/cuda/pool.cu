// Pooling. A thread makes some neighbouring channels of one output pixel, forward, and of one or four input
// pixels, backward: there it gathers from the windows that the pixel lies in, so that nothing is added by two
// threads. Windows of a network's usual kinds are known to the compiler.
#include <limits>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/activations.h"
#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct Geometry {
  int64_t batch, channels;
  int in_h, in_w, out_h, out_w, groups;  // groups of channels that a thread makes together
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
  bool count_include_pad;

  Geometry(const Pool2dParams& p, int width)
      : batch(p.batch),
        channels(p.channels),
        in_h(int(p.in_h)),
        in_w(int(p.in_w)),
        out_h(int(p.out_h)),
        out_w(int(p.out_w)),
        groups(int(p.channels / width)),
        kernel_h(int(p.kernel_h)),
        kernel_w(int(p.kernel_w)),
        stride_h(int(p.stride_h)),
        stride_w(int(p.stride_w)),
        pad_h(int(p.pad_h)),
        pad_w(int(p.pad_w)),
        count_include_pad(p.count_include_pad) {}
};

/// A square window with its stride and padding.
template <int K, int S, int P>
struct Square {
  static constexpr bool known = true;
  __device__ explicit Square(const Geometry&) {}
  static constexpr int kernel_h = K, kernel_w = K, stride_h = S, stride_w = S, pad_h = P, pad_w = P;
};
/// Any window.
struct AnyWindow {
  static constexpr bool known = false;
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
  __device__ explicit AnyWindow(const Geometry& g)
      : kernel_h(g.kernel_h),
        kernel_w(g.kernel_w),
        stride_h(g.stride_h),
        stride_w(g.stride_w),
        pad_h(g.pad_h),
        pad_w(g.pad_w) {}
};

/// The part [begin, end) of the image's side under the window, and how much the average counts.
struct Span {
  int begin, end, counted;
};
__device__ inline Span span(int out, int kernel, int stride, int pad, int in, bool count_pad) {
  const int begin = out * stride - pad;
  // What hangs over the padded image is cut off before it is counted.
  const int end = begin + kernel < in + pad ? begin + kernel : in + pad;
  Span s{begin > 0 ? begin : 0, end < in ? end : in, 0};
  s.counted = count_pad ? end - begin : s.end - s.begin;
  return s;
}
/// Calls f(pixel, values, inside) for the pixels of the image under the window of output pixel (oh, ow), in
/// scan order. What a known window has outside of the image comes as the nearest pixel inside, with inside =
/// false, so that its loads need no branches and are under way together.
template <int V, class W, class T, class F>
__device__ inline void for_window(const W& win, const Geometry& g, int oh, int ow, const T* image, F&& f) {
  const int h0 = oh * win.stride_h - win.pad_h, w0 = ow * win.stride_w - win.pad_w;
  float v[V];
  if constexpr (W::known) {
    constexpr int kCells = W::kernel_h * W::kernel_w;
    Pack<T, V> cells[kCells];
    int pixels[kCells];
    bool inside[kCells];
#pragma unroll
    for (int i = 0; i < kCells; ++i) {
      const int h = h0 + i / W::kernel_w, w = w0 + i % W::kernel_w;
      const int held_h = min(max(h, 0), g.in_h - 1), held_w = min(max(w, 0), g.in_w - 1);
      inside[i] = h == held_h && w == held_w;
      pixels[i] = held_h * g.in_w + held_w;
      cells[i] = load<V>(image + pixels[i] * g.channels);
    }
#pragma unroll
    for (int i = 0; i < kCells; ++i) {
      to_floats(cells[i], v);
      f(pixels[i], v, inside[i]);
    }
  } else {
    const int h1 = min(h0 + win.kernel_h, g.in_h), w1 = min(w0 + win.kernel_w, g.in_w);
    for (int h = max(h0, 0); h < h1; ++h)
      for (int w = max(w0, 0); w < w1; ++w) {
        const int pixel = h * g.in_w + w;
        to_floats(load<V>(image + pixel * g.channels), v);
        f(pixel, v, true);
      }
  }
}

/// The windows [first, last] that a pixel lies in.
struct Windows {
  int first, last;
  __device__ Windows(int at, int kernel, int stride, int pad, int out) {
    const int before = at + pad - kernel;  // a window that begins here ends just before the pixel
    first = before < 0 ? 0 : before / stride + 1;
    last = min((at + pad) / stride, out - 1);
  }
};

// Blocks of threads: x counts groups of channels of the pixels of one row, y the rows of all images.

template <class F>
__device__ inline void for_pixels(int64_t batch, int height, int width, int groups, F&& f) {
  const unsigned item = blockIdx.x * blockDim.x + threadIdx.x;
  wait_for_earlier();
  if (item >= unsigned(width) * unsigned(groups)) return;
  const int w = int(item / unsigned(groups)), group = int(item - unsigned(w) * unsigned(groups));
  const int64_t rows = batch * height, apart = int64_t(gridDim.y) * blockDim.y;
  for (int64_t row = int64_t(blockIdx.y) * blockDim.y + threadIdx.y; row < rows; row += apart) {
    const unsigned n = unsigned(row) / unsigned(height);
    f(int64_t(n), int(unsigned(row) - n * unsigned(height)), w, group);
  }
}
/// Launches a kernel that walks for_pixels(batch, height, width, g.groups).
template <class... Params, class... Args>
void launch_pixels(void (*kernel)(Geometry, Params...), const Geometry& g, int height, int width,
                   Args... args) {
  const int64_t items = int64_t(width) * g.groups, rows = g.batch * height;
  if (items == 0 || rows == 0) return;
  if (items >> 31 || rows >> 32)
    throw Error("pool2d: no more than 2^31 elements in a row of an image, and 2^32 rows, are possible");
  const unsigned x = items < kThreads ? unsigned(items) : kThreads, y = kThreads / x;
  launch_early(kernel, dim3(blocks_for(items, x), blocks_for(rows, y, 65535)), dim3(x, y), g, args...);
}

// --- the maximum ---

template <class T, int V, class W>
__global__ void __launch_bounds__(kThreads, 3)
    max_forward_kernel(Geometry g, const T* x, T* __restrict__ y, int32_t* __restrict__ index) {
  const W win(g);
  for_pixels(g.batch, g.out_h, g.out_w, g.groups, [&](int64_t n, int oh, int ow, int group) {
    const T* image = x + n * g.in_h * g.in_w * g.channels + int64_t(group) * V;
    float best[V];
    int where[V];
    const int first = max(oh * win.stride_h - win.pad_h, 0) * g.in_w + max(ow * win.stride_w - win.pad_w, 0);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      best[j] = -std::numeric_limits<float>::infinity();
      where[j] = first;
    }
    // A pixel that comes again changes nothing.
    for_window<V>(win, g, oh, ow, image, [&](int pixel, const float(&v)[V], bool) {
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (v[j] > best[j] || v[j] != v[j]) {
          best[j] = v[j];
          where[j] = pixel;
        }
    });
    const int64_t out = ((n * g.out_h + oh) * g.out_w + ow) * g.channels + int64_t(group) * V;
    store(y + out, from_floats<T>(best));
    constexpr int Q = V < 4 ? V : 4;
#pragma unroll
    for (int i = 0; i < V; i += Q) {
      Pack<int32_t, Q> four;
#pragma unroll
      for (int j = 0; j < Q; ++j) four.v[j] = where[i + j];
      store(index + out + i, four);
    }
  });
}

/// dx += dy where the window's maximum was at `pixel`.
template <int V>
__device__ inline void add_where(const float (&dy)[V], const int (&where)[V], int pixel, float (&dx)[V]) {
#pragma unroll
  for (int j = 0; j < V; ++j) dx[j] += where[j] == pixel ? dy[j] : 0;
}
template <int V>
__device__ inline void load_index(const int32_t* from, int (&to)[V]) {
  constexpr int Q = V < 4 ? V : 4;
#pragma unroll
  for (int i = 0; i < V; i += Q) {
    const Pack<int32_t, Q> four = load<Q>(from + i);
#pragma unroll
    for (int j = 0; j < Q; ++j) to[i + j] = four.v[j];
  }
}

template <class T, int V>
__global__ void __launch_bounds__(kThreads, 4)
    max_backward_kernel(Geometry g, const T* dy, const int32_t* index, T* __restrict__ dx) {
  for_pixels(g.batch, g.in_h, g.in_w, g.groups, [&](int64_t n, int h, int w, int group) {
    const Windows hs(h, g.kernel_h, g.stride_h, g.pad_h, g.out_h),
        ws(w, g.kernel_w, g.stride_w, g.pad_w, g.out_w);
    float sum[V] = {};
    for (int oh = hs.first; oh <= hs.last; ++oh)
      for (int ow = ws.first; ow <= ws.last; ++ow) {
        const int64_t out = ((n * g.out_h + oh) * g.out_w + ow) * g.channels + int64_t(group) * V;
        float d[V];
        int where[V];
        to_floats(load<V>(dy + out), d);
        load_index(index + out, where);
        add_where(d, where, h * g.in_w + w, sum);
      }
    store(dx + ((n * g.in_h + h) * g.in_w + w) * g.channels + int64_t(group) * V, from_floats<T>(sum));
  });
}

/// Windows of K = 2 or 3, stride 2, padding K - 2: the 2 x 2 pixels from (2 i, 2 j) on lie in the windows (i,
/// j) and, for K = 3, (i, j + 1), (i + 1, j), (i + 1, j + 1), of which the later ones reach only the later
/// pixels.
template <class T, int V, int K>
__global__ void __launch_bounds__(kThreads, 3)
    max_backward_square_kernel(Geometry g, const T* dy, const int32_t* index, T* __restrict__ dx) {
  for_pixels(g.batch, (g.in_h + 1) / 2, (g.in_w + 1) / 2, g.groups, [&](int64_t n, int i, int j, int group) {
    float sum[2][2][V] = {};
#pragma unroll
    for (int a = 0; a < K - 1; ++a)
#pragma unroll
      for (int b = 0; b < K - 1; ++b) {
        const int oh = i + a, ow = j + b;
        if (oh >= g.out_h || ow >= g.out_w) continue;
        const int64_t out = ((n * g.out_h + oh) * g.out_w + ow) * g.channels + int64_t(group) * V;
        float d[V];
        int where[V];
        to_floats(load<V>(dy + out), d);
        load_index(index + out, where);
#pragma unroll
        for (int r = a; r < 2; ++r)
#pragma unroll
          for (int s = b; s < 2; ++s) add_where(d, where, (2 * i + r) * g.in_w + 2 * j + s, sum[r][s]);
      }
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const int h = 2 * i + r, w = 2 * j + s;
        if (h < g.in_h && w < g.in_w)
          store(dx + ((n * g.in_h + h) * g.in_w + w) * g.channels + int64_t(group) * V,
                from_floats<T>(sum[r][s]));
      }
  });
}

// --- the average ---

template <class T, int V, class W>
__global__ void __launch_bounds__(kThreads, 4) avg_forward_kernel(Geometry g, const T* x, T* __restrict__ y) {
  const W win(g);
  for_pixels(g.batch, g.out_h, g.out_w, g.groups, [&](int64_t n, int oh, int ow, int group) {
    const T* image = x + n * g.in_h * g.in_w * g.channels + int64_t(group) * V;
    float sum[V] = {};
    for_window<V>(win, g, oh, ow, image, [&](int, const float(&v)[V], bool inside) {
#pragma unroll
      for (int j = 0; j < V; ++j) sum[j] += inside ? v[j] : 0;
    });
    const Span hs = span(oh, win.kernel_h, win.stride_h, win.pad_h, g.in_h, g.count_include_pad),
               ws = span(ow, win.kernel_w, win.stride_w, win.pad_w, g.in_w, g.count_include_pad);
    const float share = 1 / (float(hs.counted) * float(ws.counted));
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] *= share;
    store(y + ((n * g.out_h + oh) * g.out_w + ow) * g.channels + int64_t(group) * V, from_floats<T>(sum));
  });
}

template <class T, int V, class W>
__global__ void __launch_bounds__(kThreads, 4)
    avg_backward_kernel(Geometry g, const T* dy, T* __restrict__ dx, bool add) {
  const W win(g);
  for_pixels(g.batch, g.in_h, g.in_w, g.groups, [&](int64_t n, int h, int w, int group) {
    const Windows hs(h, win.kernel_h, win.stride_h, win.pad_h, g.out_h),
        ws(w, win.kernel_w, win.stride_w, win.pad_w, g.out_w);
    T* const to = dx + ((n * g.in_h + h) * g.in_w + w) * g.channels + int64_t(group) * V;
    float sum[V] = {};
    if (add) to_floats(load<V>(to), sum);
#pragma unroll 1
    for (int oh = hs.first; oh <= hs.last; ++oh) {
      const Span under_h = span(oh, win.kernel_h, win.stride_h, win.pad_h, g.in_h, g.count_include_pad);
#pragma unroll 1
      for (int ow = ws.first; ow <= ws.last; ++ow) {
        const Span under_w = span(ow, win.kernel_w, win.stride_w, win.pad_w, g.in_w, g.count_include_pad);
        const float share = 1 / (float(under_h.counted) * float(under_w.counted));
        float d[V];
        to_floats(load<V>(dy + ((n * g.out_h + oh) * g.out_w + ow) * g.channels + int64_t(group) * V), d);
#pragma unroll
        for (int j = 0; j < V; ++j) sum[j] = fmaf(d[j], share, sum[j]);
      }
    }
    store(to, from_floats<T>(sum));
  });
}

/// The 2x2 pixels under window (i, j) and the window: offsets of V channels, and the pixels' share of the
/// mean, without padding. What hangs over comes as the nearest pixel inside, which is the thread's too, with
/// inside = false: so loads need no branches.
struct Four {
  int64_t pixel[4], window;
  bool inside[4];
  float share;
  __device__ Four(const Geometry& g, int64_t n, int i, int j, int channel) {
    int counted = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int h = 2 * i + k / 2, w = 2 * j + k % 2;
      inside[k] = h < g.in_h && w < g.in_w;
      counted += inside[k];
      pixel[k] = ((n * g.in_h + min(h, g.in_h - 1)) * g.in_w + min(w, g.in_w - 1)) * g.channels + channel;
    }
    window = ((n * g.out_h + i) * g.out_w + j) * g.channels + channel;
    share = 1 / float(counted);
  }
};

/// Windows of 2 x 2, stride 2, no padding: no pixel lies in two of them. A thread has a window and its four
/// pixels, those too that no window has; it reads all before it writes.
template <class T, int V, bool Add>
__global__ void __launch_bounds__(kThreads, 4)
    avg_backward_square_kernel(Geometry g, const T* dy, T* __restrict__ dx) {
  for_pixels(g.batch, (g.in_h + 1) / 2, (g.in_w + 1) / 2, g.groups, [&](int64_t n, int i, int j, int group) {
    const Four at(g, n, i, j, group * V);
    Pack<T, V> from = {}, before[4] = {};
    const bool has_window = i < g.out_h && j < g.out_w;
    if (has_window) from = load<V>(dy + at.window);
    if constexpr (Add)
#pragma unroll
      for (int k = 0; k < 4; ++k) before[k] = load<V>(dx + at.pixel[k]);
    float d[V], sum[V];
    to_floats(from, d);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      to_floats(before[k], sum);
      if (has_window)
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] = fmaf(d[v], at.share, sum[v]);
      if (at.inside[k]) store(dx + at.pixel[k], from_floats<T>(sum));
    }
  });
}

// --- the activation of a sum, and the average of that ---

template <class T, int V, class A>
__global__ void __launch_bounds__(kThreads, 3)
    add_activation_pool_kernel(Geometry g, A act, float param, const T* a, const T* b, T* y,
                               T* __restrict__ pooled) {
  const InHand<A, float> f{act, param};
  for_pixels(g.batch, g.out_h, g.out_w, g.groups, [&](int64_t n, int i, int j, int group) {
    const Four at(g, n, i, j, group * V);
    Pack<T, V> as[4], bs[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) as[k] = load<V>(a + at.pixel[k]), bs[k] = load<V>(b + at.pixel[k]);
    float sum[V] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float v[V], w[V];
      to_floats(as[k], v);
      to_floats(bs[k], w);
#pragma unroll
      for (int c = 0; c < V; ++c) {
        v[c] = value<T>(f, v[c] + w[c]);
        sum[c] += at.inside[k] ? v[c] : 0;
      }
      if (at.inside[k]) store(y + at.pixel[k], from_floats<T>(v));
    }
#pragma unroll
    for (int c = 0; c < V; ++c) sum[c] *= at.share;
    store(pooled + at.window, from_floats<T>(sum));
  });
}

template <class T, int V, class A>
__global__ void __launch_bounds__(kThreads, 2)
    add_activation_pool_backward_kernel(Geometry g, A act, float param, const T* a, const T* b, const T* dy,
                                        const T* dpooled, T* gradient) {
  const InHand<A, float> f{act, param};
  for_pixels(g.batch, g.out_h, g.out_w, g.groups, [&](int64_t n, int i, int j, int group) {
    const Four at(g, n, i, j, group * V);
    Pack<T, V> as[4], bs[4], dys[4];
    const Pack<T, V> from = load<V>(dpooled + at.window);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      as[k] = load<V>(a + at.pixel[k]);
      bs[k] = load<V>(b + at.pixel[k]);
      dys[k] = load<V>(dy + at.pixel[k]);
    }
    float d[V];
    to_floats(from, d);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float v[V], w[V], sum[V];
      to_floats(as[k], v);
      to_floats(bs[k], w);
      to_floats(dys[k], sum);
#pragma unroll
      for (int c = 0; c < V; ++c) sum[c] = fmaf(d[c], at.share, sum[c]) * slope<T>(f, v[c] + w[c]);
      if (at.inside[k]) store(gradient + at.pixel[k], from_floats<T>(sum));
    }
  });
}

/// The mean of each channel over an image: a block for some groups of channels of one image, with its threads
/// in rows of `lanes`; each row of threads sums some of the pixels.
template <class T, int V>
__global__ void __launch_bounds__(kThreads, 4)
    mean_kernel(Geometry g, int slices, int lanes, int lane_rows, const T* x, T* __restrict__ y) {
  __shared__ float room[kThreads / 2 * V];
  const int64_t n = blockIdx.x / unsigned(slices);
  const int lane = int(threadIdx.x) % lanes, lane_row = int(threadIdx.x) / lanes;
  const int group = int(blockIdx.x % unsigned(slices)) * lanes + lane;
  const bool active = group < g.groups;
  const int64_t pixels = int64_t(g.in_h) * g.in_w;
  const T* from = x + n * pixels * g.channels + int64_t(group) * V;
  float sum[V] = {};
  if (active) {
#pragma unroll 4
    for (int64_t pixel = lane_row; pixel < pixels; pixel += lane_rows) {
      float v[V];
      to_floats(load<V>(from + pixel * g.channels), v);
#pragma unroll
      for (int j = 0; j < V; ++j) sum[j] += v[j];
    }
  }
  for (int rows = lane_rows; rows > 1;) {
    const int half = (rows + 1) / 2;
    if (lane_row >= half && lane_row < rows)
#pragma unroll
      for (int j = 0; j < V; ++j) room[((lane_row - half) * V + j) * lanes + lane] = sum[j];
    __syncthreads();
    if (lane_row < rows - half)
#pragma unroll
      for (int j = 0; j < V; ++j) sum[j] += room[(lane_row * V + j) * lanes + lane];
    __syncthreads();
    rows = half;
  }
  if (!active || lane_row != 0) return;
  const float share = 1 / float(pixels);
#pragma unroll
  for (int j = 0; j < V; ++j) sum[j] *= share;
  store(y + n * g.channels + int64_t(group) * V, from_floats<T>(sum));
}

// --- table entries ---

bool is_square(const Pool2dParams& p, int64_t kernel, int64_t stride, int64_t pad) {
  return p.kernel_h == kernel && p.kernel_w == kernel && p.stride_h == stride && p.stride_w == stride &&
         p.pad_h == pad && p.pad_w == pad;
}
bool covers_image(const Pool2dParams& p) {
  return p.out_h == 1 && p.out_w == 1 && p.pad_h == 0 && p.pad_w == 0 && p.kernel_h >= p.in_h &&
         p.kernel_w >= p.in_w;
}
template <class T>
bool wide(const Pool2dParams& p, std::initializer_list<const void*> pointers) {
  return p.channels % kWide<T> == 0 && aligned(pointers);
}

template <class T>
void max_pool2d_forward(const Pool2dParams& p, const T* x, T* y, int32_t* index) {
  const auto start = [&](const Geometry& g, auto kernel) {
    launch_pixels(kernel, g, g.out_h, g.out_w, x, y, index);
  };
  if (!wide<T>(p, {x, y, index})) return start(Geometry(p, 1), max_forward_kernel<T, 1, AnyWindow>);
  const Geometry g(p, kWide<T>);
  if (is_square(p, 3, 2, 1)) return start(g, max_forward_kernel<T, kWide<T>, Square<3, 2, 1>>);
  if (is_square(p, 3, 1, 1)) return start(g, max_forward_kernel<T, kWide<T>, Square<3, 1, 1>>);
  if (is_square(p, 2, 2, 0)) return start(g, max_forward_kernel<T, kWide<T>, Square<2, 2, 0>>);
  start(g, max_forward_kernel<T, kWide<T>, AnyWindow>);
}

template <class T>
void max_pool2d_backward(const Pool2dParams& p, const T* dy, const int32_t* index, T* dx) {
  const auto start = [&](const Geometry& g, int height, int width, auto kernel) {
    launch_pixels(kernel, g, height, width, dy, index, dx);
  };
  if (!wide<T>(p, {dy, index, dx})) {
    const Geometry g(p, 1);
    return start(g, g.in_h, g.in_w, max_backward_kernel<T, 1>);
  }
  const Geometry g(p, kWide<T>);
  const int half_h = (g.in_h + 1) / 2, half_w = (g.in_w + 1) / 2;
  if (is_square(p, 3, 2, 1)) return start(g, half_h, half_w, max_backward_square_kernel<T, kWide<T>, 3>);
  if (is_square(p, 2, 2, 0)) return start(g, half_h, half_w, max_backward_square_kernel<T, kWide<T>, 2>);
  start(g, g.in_h, g.in_w, max_backward_kernel<T, kWide<T>>);
}

template <class T, int V>
void mean(const Pool2dParams& p, const T* x, T* y) {
  const Geometry g(p, V);
  if (g.batch == 0 || g.groups == 0) return;
  const int slices = (g.groups + 31) / 32, lanes = (g.groups + slices - 1) / slices;
  const int64_t pixels = p.in_h * p.in_w, fit = kThreads / lanes;
  const int lane_rows = int(pixels < fit ? pixels : fit);
  launch(mean_kernel<T, V>, blocks_for(g.batch * slices, 1), dim3(unsigned(lanes * lane_rows)), g, slices,
         lanes, lane_rows, x, y);
}

template <class T>
void avg_pool2d_forward(const Pool2dParams& p, const T* x, T* y) {
  const bool is_wide = wide<T>(p, {x, y});
  if (covers_image(p)) return is_wide ? mean<T, kWide<T>>(p, x, y) : mean<T, 1>(p, x, y);
  const auto start = [&](const Geometry& g, auto kernel) {
    launch_pixels(kernel, g, g.out_h, g.out_w, x, y);
  };
  if (!is_wide) return start(Geometry(p, 1), avg_forward_kernel<T, 1, AnyWindow>);
  const Geometry g(p, kWide<T>);
  if (is_square(p, 2, 2, 0)) return start(g, avg_forward_kernel<T, kWide<T>, Square<2, 2, 0>>);
  start(g, avg_forward_kernel<T, kWide<T>, AnyWindow>);
}

template <class T>
void avg_backward(const Pool2dParams& p, const T* dy, T* dx, bool add) {
  const auto start = [&](const Geometry& g, auto kernel) {
    launch_pixels(kernel, g, g.in_h, g.in_w, dy, dx, add);
  };
  if (!wide<T>(p, {dy, dx})) return start(Geometry(p, 1), avg_backward_kernel<T, 1, AnyWindow>);
  const Geometry g(p, kWide<T>);
  if (is_square(p, 2, 2, 0))
    return launch_pixels(
        add ? avg_backward_square_kernel<T, kWide<T>, true> : avg_backward_square_kernel<T, kWide<T>, false>,
        g, (g.in_h + 1) / 2, (g.in_w + 1) / 2, dy, dx);
  start(g, avg_backward_kernel<T, kWide<T>, AnyWindow>);
}

/// Calls f(geometry, activation, constant of the channels at once): one, too, for calls of any activation,
/// which would push what is kept out of registers.
template <class T, class F>
void choose(const Pool2dParams& p, Activation act, std::initializer_list<const void*> pointers, F&& f) {
  const auto narrow = [&] { f(Geometry(p, 1), AnyActivation{act}, std::integral_constant<int, 1>{}); };
  if (!wide<T>(p, pointers)) return narrow();
  with_activation(act, [&]<class A>(A a) {
    if constexpr (std::is_same_v<A, AnyActivation>)
      narrow();
    else
      f(Geometry(p, kWide<T>), a, std::integral_constant<int, kWide<T>>{});
  });
}

template <class T>
void add_activation_pool(Activation act, Wide<T> param, const Pool2dParams& p, const T* a, const T* b, T* y,
                         T* pooled) {
  choose<T>(p, act, {a, b, y, pooled},
            [&]<class A, int V>(const Geometry& g, A f, std::integral_constant<int, V>) {
              launch_pixels(add_activation_pool_kernel<T, V, A>, g, g.out_h, g.out_w, f, float(param), a, b,
                            y, pooled);
            });
}

template <class T>
void add_activation_pool_backward(Activation act, Wide<T> param, const Pool2dParams& p, const T* a,
                                  const T* b, const T* dy, const T* dpooled, T* gradient) {
  choose<T>(p, act, {a, b, dy, dpooled, gradient},
            [&]<class A, int V>(const Geometry& g, A f, std::integral_constant<int, V>) {
              launch_pixels(add_activation_pool_backward_kernel<T, V, A>, g, g.out_h, g.out_w, f,
                            float(param), a, b, dy, dpooled, gradient);
            });
}

}  // namespace

template <class T>
void set_pool(KernelTable<T>& table) {
  table.max_pool2d_forward = max_pool2d_forward<T>;
  table.max_pool2d_backward = max_pool2d_backward<T>;
  table.avg_pool2d_forward = avg_pool2d_forward<T>;
  table.avg_pool2d_backward = [](const Pool2dParams& p, const T* dy, T* dx) {
    avg_backward(p, dy, dx, false);
  };
  table.avg_pool2d_backward_add = [](const Pool2dParams& p, const T* dy, T* dx) {
    avg_backward(p, dy, dx, true);
  };
  table.add_activation_pool = add_activation_pool<T>;
  table.add_activation_pool_backward = add_activation_pool_backward<T>;
}

template void set_pool(KernelTable<float>&);
template void set_pool(KernelTable<bf16>&);
template void set_pool(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
