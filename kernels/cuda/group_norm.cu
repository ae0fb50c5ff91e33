// Group norm. A team of threads makes a group of an image: twice over its elements for the statistics, once
// to write; the cache has them after the first time. Groups of so few channels that a team would read scraps
// of lines are made by blocks that own some neighbouring channels, of several groups. Sums for weight and
// bias go down the channels in a kernel of their own.
#include <algorithm>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/team.h"

namespace weft::kernels::cuda {
namespace {

/// What all kernels here need to know of the shape.
struct Geometry {
  int64_t batch, pixels, groups, channels, width;
  float share;  // 1 / elements of a group

  template <class T>
  explicit Geometry(const GroupNormArgs<T>& a)
      : batch(a.batch),
        pixels(a.pixels),
        groups(a.groups),
        channels(a.channels),
        width(a.width()),
        share(float(1 / double(a.pixels * a.width()))) {}
};

__device__ inline float inverse_std(float mean_square, float off, double eps) {
  const float var = mean_square - off * off;
  return float(1 / sqrt(double(var < 0 ? 0 : var) + eps));
}

template <int V>
__device__ inline void load_or(const float* p, int64_t i, float otherwise, float (&to)[V]) {
  if (p) return load_floats(p + i, to);
#pragma unroll
  for (int j = 0; j < V; ++j) to[j] = otherwise;
}

// --- a team for each group ---

/// Calls f(offset from the group's first element, channel of the group) for the team's elements, each the
/// first of V.
template <class TeamT, int V, class F>
__device__ inline void for_group(const Geometry& q, F&& f) {
  constexpr int kStep = TeamT::size * V;
  const int start = TeamT::thread() * V;
  int64_t pixel = start < q.width ? 0 : start / int(q.width), k = start - pixel * q.width;
  const int64_t pixels = kStep < q.width ? 0 : kStep / int(q.width), more = kStep - pixels * q.width;
  while (pixel < q.pixels) {
    f(pixel * q.channels + k, k);
    pixel += pixels, k += more;
    if (k >= q.width) k -= q.width, ++pixel;
  }
}

template <class T, int V, bool kBlock>
__global__ void __launch_bounds__(kThreads, 4)
    forward_kernel(Geometry q, const T* x, const float* weight, const float* bias, double eps, T* y,
                   float* mean, float* rstd) {
  using TeamT = Team<kBlock>;
  for (int64_t item = TeamT::first_row(); item < q.batch * q.groups; item += TeamT::rows_apart()) {
    const int64_t image = item / q.groups, channel = (item - image * q.groups) * q.width;
    const int64_t base = image * q.pixels * q.channels + channel;
    float sum = 0;
    for_group<TeamT, V>(q, [&](int64_t i, int64_t) {
      float v[V];
      to_floats(load<V>(x + base + i), v);
#pragma unroll
      for (int j = 0; j < V; ++j) sum += v[j];
    });
    const float guess = TeamT::sum(sum) * q.share;
    float squares = 0;
    sum = 0;
    for_group<TeamT, V>(q, [&](int64_t i, int64_t) {
      float v[V];
      to_floats(load<V>(x + base + i), v);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float d = v[j] - guess;
        sum += d;
        squares = fmaf(d, d, squares);
      }
    });
    const float off = TeamT::sum(sum) * q.share, m = guess + off;
    const float s = inverse_std(TeamT::sum(squares) * q.share, off, eps);
    for_group<TeamT, V>(q, [&](int64_t i, int64_t k) {
      float v[V], w[V], b[V];
      to_floats(load<V>(x + base + i), v);
      load_or(weight, channel + k, 1, w);
      load_or(bias, channel + k, 0, b);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = fmaf((v[j] - m) * s, w[j], b[j]);
      store(y + base + i, from_floats<T>(v));
    });
    if (TeamT::thread() == 0) mean[item] = m, rstd[item] = s;
  }
}

template <class T, int V, bool kBlock>
__global__ void __launch_bounds__(kThreads, 4)
    backward_kernel(Geometry q, const T* x, const float* weight, const float* mean, const float* rstd,
                    const T* dy, T* dx) {
  using TeamT = Team<kBlock>;
  for (int64_t item = TeamT::first_row(); item < q.batch * q.groups; item += TeamT::rows_apart()) {
    const int64_t image = item / q.groups, channel = (item - image * q.groups) * q.width;
    const int64_t base = image * q.pixels * q.channels + channel;
    const float m = mean[item], s = rstd[item];
    const auto get = [&](int64_t i, int64_t k, float(&v)[V], float(&g)[V]) {
      float w[V];
      to_floats(load<V>(x + base + i), v);
      to_floats(load<V>(dy + base + i), g);
      load_or(weight, channel + k, 1, w);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = (v[j] - m) * s, g[j] *= w[j];
    };
    float sum = 0, product = 0;
    for_group<TeamT, V>(q, [&](int64_t i, int64_t k) {
      float v[V], g[V];
      get(i, k, v, g);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        sum += g[j];
        product = fmaf(g[j], v[j], product);
      }
    });
    sum = TeamT::sum(sum) * q.share, product = TeamT::sum(product) * q.share;
    for_group<TeamT, V>(q, [&](int64_t i, int64_t k) {
      float v[V], g[V];
      get(i, k, v, g);
#pragma unroll
      for (int j = 0; j < V; ++j) g[j] = s * (g[j] - sum - v[j] * product);
      store(dx + base + i, from_floats<T>(g));
    });
  }
}

// --- a block for some narrow groups ---

constexpr int64_t kNarrow = kWarp;  // the widest of them

/// The groups of an image that a block makes: a lane for each channel, the warps share the pixels.
struct Narrow {
  int64_t item, base, step;  // item: of the lane's group; base, step: the lane's first element, to its next
  int lane, warp, first;     // first: the lane of the group's first channel
  bool active;

  static __host__ __device__ int64_t lanes(const Geometry& q) { return kNarrow / q.width * q.width; }
  static __host__ __device__ int64_t slices(const Geometry& q) {
    return (q.channels + lanes(q) - 1) / lanes(q);
  }
  __device__ Narrow(const Geometry& q, int64_t slice) {
    lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
    const int64_t image = slice / slices(q), channel = (slice - image * slices(q)) * lanes(q) + lane;
    active = lane < lanes(q) && channel < q.channels;
    first = lane / int(q.width) * int(q.width);
    item = image * q.groups + channel / q.width;
    base = (image * q.pixels + warp) * q.channels + channel;
    step = kWarps * q.channels;
  }
  template <class F>
  __device__ void for_pixels(const Geometry& q, F&& f) const {
    int64_t i = base;
    for (int64_t pixel = warp; active && pixel < q.pixels; pixel += kWarps, i += step) f(i);
  }
  /// The sum over the group, in all its threads.
  __device__ float sum(const Geometry& q, float v) const {
    __shared__ float room[kWarps][kWarp];
    __syncthreads();  // all have read what was here before
    room[warp][lane] = v;
    __syncthreads();
    float total = 0;
    for (int k = first; active && k < first + int(q.width); ++k)
      for (int w = 0; w < kWarps; ++w) total += room[w][k];
    return total;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    narrow_forward_kernel(Geometry q, const T* x, const float* weight, const float* bias, double eps, T* y,
                          float* mean, float* rstd) {
  for (int64_t slice = blockIdx.x; slice < q.batch * Narrow::slices(q); slice += gridDim.x) {
    const Narrow at(q, slice);
    float sum = 0, squares = 0;
    at.for_pixels(q, [&](int64_t i) { sum += float(x[i]); });
    const float guess = at.sum(q, sum) * q.share;
    sum = 0;
    at.for_pixels(q, [&](int64_t i) {
      const float d = float(x[i]) - guess;
      sum += d;
      squares = fmaf(d, d, squares);
    });
    const float off = at.sum(q, sum) * q.share, m = guess + off;
    const float s = inverse_std(at.sum(q, squares) * q.share, off, eps);
    if (!at.active) continue;
    const int64_t channel = at.base % q.channels;
    const float w = weight ? weight[channel] : 1, b = bias ? bias[channel] : 0;
    at.for_pixels(q, [&](int64_t i) { y[i] = T(fmaf((float(x[i]) - m) * s, w, b)); });
    if (at.warp == 0 && at.lane == at.first) mean[at.item] = m, rstd[at.item] = s;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    narrow_backward_kernel(Geometry q, const T* x, const float* weight, const float* mean, const float* rstd,
                           const T* dy, T* dx) {
  for (int64_t slice = blockIdx.x; slice < q.batch * Narrow::slices(q); slice += gridDim.x) {
    const Narrow at(q, slice);
    const float m = at.active ? mean[at.item] : 0, s = at.active ? rstd[at.item] : 0;
    const float w = at.active && weight ? weight[at.base % q.channels] : 1;
    float sum = 0, product = 0;
    at.for_pixels(q, [&](int64_t i) {
      const float g = float(dy[i]) * w;
      sum += g;
      product = fmaf(g, (float(x[i]) - m) * s, product);
    });
    sum = at.sum(q, sum) * q.share, product = at.sum(q, product) * q.share;
    at.for_pixels(
        q, [&](int64_t i) { dx[i] = T(s * (float(dy[i]) * w - sum - (float(x[i]) - m) * s * product)); });
  }
}

// --- sums for weight and bias ---

/// partial: [gridDim.y, 2, channels], sums of dy * xhat and of dy over a block's rows.
template <class T>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(Geometry q, const T* x, const float* mean, const float* rstd, const T* dy, float* partial) {
  __shared__ float room[2][kWarps][kWarp];
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const int64_t c = int64_t(blockIdx.x) * kWarp + lane;
  const int64_t rows = q.batch * q.pixels, apart = int64_t(gridDim.y) * kWarps;
  float product = 0, sum = 0;
  if (c < q.channels) {
    int64_t row = int64_t(blockIdx.y) * kWarps + warp;
    int64_t image = row / q.pixels, pixel = row - image * q.pixels;
    const int64_t group = c / q.width, images = apart / q.pixels, pixels = apart - images * q.pixels;
    for (; row < rows; row += apart) {
      const float g = float(dy[row * q.channels + c]);
      const int64_t item = image * q.groups + group;
      sum += g;
      product = fmaf(g, (float(x[row * q.channels + c]) - mean[item]) * rstd[item], product);
      image += images, pixel += pixels;
      if (pixel >= q.pixels) pixel -= q.pixels, ++image;
    }
  }
  room[0][warp][lane] = product, room[1][warp][lane] = sum;
  __syncthreads();
  if (warp >= 2 || c >= q.channels) return;
  float total = 0;
  for (int w = 0; w < kWarps; ++w) total += room[warp][w][lane];
  partial[(int64_t(blockIdx.y) * 2 + warp) * q.channels + c] = total;
}

__global__ void join_kernel(int64_t channels, int blocks, const float* partial, float* dweight,
                            float* dbias) {
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  double product = 0, sum = 0;
  for (int block = 0; block < blocks; ++block) {
    product += double(partial[int64_t(block) * 2 * channels + c]);
    sum += double(partial[(int64_t(block) * 2 + 1) * channels + c]);
  }
  if (dweight) dweight[c] = float(product);
  if (dbias) dbias[c] = float(sum);
}

// --- table entries ---

/// Whether a team would read less than a sector of 32 bytes at a time.
template <class T>
bool narrow(const GroupNormArgs<T>& a) {
  return a.pixels > 1 && a.width() <= kNarrow &&
         (a.width() % kWide<T> != 0 || a.width() * int64_t(sizeof(T)) < 32);
}

/// Calls f(blocks, Choice) for the team that suits the groups.
template <class T, class F>
void with_team(const GroupNormArgs<T>& a, std::initializer_list<const void*> pointers, F&& f) {
  choose<T>(a.batch * a.groups, a.pixels * a.width(), a.width(), 8, pointers, std::forward<F>(f));
}

template <class T>
unsigned narrow_blocks(const GroupNormArgs<T>& a) {
  const Geometry q(a);
  return blocks_for(q.batch * Narrow::slices(q), 1, 16 * int64_t(multiprocessors()));
}

template <class T>
void group_norm_forward(const GroupNormArgs<T>& a, double eps, T* y, float* mean, float* rstd) {
  if (a.batch * a.pixels * a.channels == 0) return;
  const Geometry q(a);
  if (narrow(a))
    return launch(narrow_forward_kernel<T>, narrow_blocks(a), kThreads, q, a.x, a.weight, a.bias, eps, y,
                  mean, rstd);
  with_team(a, {a.x, a.weight, a.bias, y}, [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
    launch(forward_kernel<T, V, kBlock>, blocks, kThreads, q, a.x, a.weight, a.bias, eps, y, mean, rstd);
  });
}

template <class T>
void group_norm_backward(const GroupNormArgs<T>& a, const float* mean, const float* rstd, const T* dy, T* dx,
                         float* dweight, float* dbias) {
  if (a.channels == 0) return;
  const Geometry q(a);
  if (dweight || dbias) {
    const unsigned slices = blocks_for(a.channels, kWarp);
    const unsigned rows = blocks_for(a.batch * a.pixels, 4 * kWarps,
                                     std::max<int64_t>(1, 4 * int64_t(multiprocessors()) / int64_t(slices)));
    float* partial = static_cast<float*>(scratch(int64_t(sizeof(float)) * 2 * rows * a.channels));
    launch(sums_kernel<T>, dim3(slices, rows), kThreads, q, a.x, mean, rstd, dy, partial);
    launch(join_kernel, blocks_for(a.channels, kThreads), kThreads, a.channels, int(rows), partial, dweight,
           dbias);
  }
  if (!dx || a.batch * a.pixels == 0) return;
  if (narrow(a))
    return launch(narrow_backward_kernel<T>, narrow_blocks(a), kThreads, q, a.x, a.weight, mean, rstd, dy,
                  dx);
  with_team(a, {a.x, a.weight, dy, dx}, [&]<int V, bool kBlock>(unsigned blocks, Choice<V, kBlock>) {
    launch(backward_kernel<T, V, kBlock>, blocks, kThreads, q, a.x, a.weight, mean, rstd, dy, dx);
  });
}

}  // namespace

template <class T>
void set_group_norm(KernelTable<T>& table) {
  table.group_norm_forward = group_norm_forward<T>;
  table.group_norm_backward = group_norm_backward<T>;
}

template void set_group_norm(KernelTable<float>&);
template void set_group_norm(KernelTable<bf16>&);
template void set_group_norm(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
