#include "weft/kernels/cuda/augment.h"

#include <algorithm>
#include <cmath>

#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kRows = 8;       // output rows of a block
constexpr int kColumns = 128;  // and columns, at most
constexpr int kSpan = 1024;    // bytes of an input row that are blended at a time

/// The taps of one output, as far as all its pixels share them: tap k is input first + k and weighs
/// norm * max(0, 1 - |(offset + k) * inverse|). That is cheaper than a table of all weights, and there is no
/// limit to the number of taps.
struct Taps {
  int first, count;
  float offset, inverse, norm;

  __device__ float operator()(float k) const { return fmaxf(0.0f, 1 - fabsf(fmaf(k, inverse, offset))); }
};

/// Pillow's precompute_coeffs, for output i. Places are found in double, as on the CPU: a float has no room
/// for a fraction beside the coordinates of a large picture.
__device__ Taps make_taps(const ResizeAxis& axis, int i) {
  const double support = axis.scale > 1 ? axis.scale : 1;
  const double center = axis.start + (axis.from + i + 0.5) * axis.scale;
  const int first = int(floor(center - support + 0.5)), last = int(floor(center + support + 0.5));
  Taps taps;
  taps.first = first > axis.low ? first : axis.low;
  taps.count = (last < axis.high ? last : axis.high) - taps.first;
  const double inverse = 1 / support;
  taps.inverse = float(inverse);
  taps.offset = float((taps.first - center + 0.5) * inverse);
  float sum = 0;
  for (int k = 0; k < taps.count; ++k) sum += taps(float(k));
  taps.norm = 1 / sum;
  return taps;
}

/// Byte k of a word as a float. Put into the last bits of 2^23 it needs no conversion, which has a fraction
/// of the rate of other instructions.
template <int k>
__device__ float byte_of(uint32_t word) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7540 + k)) - 8388608.0f;
#else
  return float((word >> (8 * k)) & 0xffu);
#endif
}

__device__ uint32_t word_at(const uint8_t* p) { return __ldg(reinterpret_cast<const uint32_t*>(p)); }

/// sum[k] += weight * byte k of the word
__device__ void add_bytes(Pack<float, 4>& sum, float weight, uint32_t word) {
  sum.v[0] = fmaf(weight, byte_of<0>(word), sum.v[0]);
  sum.v[1] = fmaf(weight, byte_of<1>(word), sum.v[1]);
  sum.v[2] = fmaf(weight, byte_of<2>(word), sum.v[2]);
  sum.v[3] = fmaf(weight, byte_of<3>(word), sum.v[3]);
}

/// Blocks are numbered by picture, rows, columns. A block blends the input rows for its kRows output rows in
/// shared memory, a span of columns at a time (the whole width but for large pictures); then each thread owns
/// one channel of one output column and adds up its taps for all the rows. Neighbouring threads thus read
/// neighbouring words, and write neighbouring elements. A block has at least 3 threads for each of its
/// columns.
template <class T>
__global__ void __launch_bounds__(3 * kColumns, 3)
    augment_kernel(AugmentArgs args, int row_tiles, int column_tiles, int columns,
                   const PictureView* __restrict__ pictures, const uint8_t* __restrict__ pixels,
                   T* __restrict__ out) {
  alignas(16) __shared__ float blended[kRows][kSpan];
  __shared__ Taps row_taps[kRows], column_taps[kColumns];
  const int thread = int(threadIdx.x), threads = int(blockDim.x);
  const unsigned tile = blockIdx.x / unsigned(column_tiles);
  const int x0 = int(blockIdx.x % unsigned(column_tiles)) * columns,
            y0 = int(tile % unsigned(row_tiles)) * kRows;
  const int64_t picture = tile / unsigned(row_tiles);
  const int width = min(columns, args.size - x0), height = min(kRows, args.size - y0);

  const int x = thread / 3, c = thread - 3 * x;
  const bool owner = x < width;
  const float scale = c == 0 ? args.scale[0] : c == 1 ? args.scale[1] : args.scale[2];
  float sum[kRows] = {};

  const MixView mix = args.mix ? args.mix[picture] : MixView{};
  const int sources = mix.weight == 1 ? 1 : 2;
  for (int source = 0; source < sources; ++source) {
    const PictureView& view = pictures[source == 0 ? picture : mix.partner];
    const bool flip = view.flip != 0;
    for (int i = thread; i < width; i += threads)
      column_taps[i] = make_taps(view.columns, flip ? args.size - 1 - (x0 + i) : x0 + i);
    if (thread >= threads - height) {  // not those that have made columns, if there are others
      const int i = threads - 1 - thread;
      row_taps[i] = make_taps(view.rows, y0 + i);
    }
    __syncthreads();
    const Taps &leftmost = column_taps[flip ? width - 1 : 0], &rightmost = column_taps[flip ? 0 : width - 1];
    const int begin = leftmost.first * 3 & ~3;  // in bytes of a row, from the start of a word
    const int end = (rightmost.first + rightmost.count) * 3;
    const Taps taps = column_taps[owner ? x : 0];  // from the last barrier below on, nobody reads shared taps
    const float factor = taps.norm * scale * (source == 0 ? mix.weight : 1 - mix.weight);
    int k = 0;
    const uint8_t* origin = pixels + view.offset;
    const int64_t pitch = view.pitch;
    for (int from = begin; from < end; from += kSpan) {
      const int bytes = min(kSpan, end - from), words = (bytes + 3) / 4;
      if (from != begin) __syncthreads();  // all are done with the span before
      const int row_step = threads / words, word_step = threads - row_step * words;
      int row = thread / words, word = thread - row * words;
      while (row < height) {
        const Taps t = row_taps[row];
        const uint8_t* input = origin + int64_t(t.first) * pitch + from + 4 * word;
        Pack<float, 4> v{};
        int j = 0;
        for (; j + 1 < t.count; j += 2, input += 2 * pitch) {  // two loads at a time
          const uint32_t a = word_at(input), b = word_at(input + pitch);
          add_bytes(v, t.norm * t(float(j)), a);
          add_bytes(v, t.norm * t(float(j + 1)), b);
        }
        if (j < t.count) add_bytes(v, t.norm * t(float(j)), word_at(input));
        *reinterpret_cast<Pack<float, 4>*>(&blended[row][4 * word]) = v;
        row += row_step, word += word_step;
        if (word >= words) word -= words, ++row;
      }
      __syncthreads();
      if (owner) {
        int at = (taps.first + k) * 3 + c - from;
        for (; k < taps.count && at < bytes; ++k, at += 3) {
          const float w = factor * taps(float(k));
#pragma unroll
          for (int r = 0; r < kRows; ++r) sum[r] = fmaf(w, blended[r][at], sum[r]);
        }
      }
    }
  }
  if (!owner) return;
  const int channels = args.channels;
  const float shift = c == 0 ? args.shift[0] : c == 1 ? args.shift[1] : args.shift[2];
  T* to = out + ((picture * args.size + y0) * args.size + x0 + x) * channels + c;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= height) break;
    *to = T(sum[r] + shift);
    if (c == 2)
#pragma unroll 1
      for (int pad = 1; pad < channels - 2; ++pad) to[pad] = T(0.0f);
    to += int64_t(args.size) * channels;
  }
}

/// A thread for each pixel, in steps of the grid.
__global__ void padded_crop_kernel(PaddedCropArgs args, const Retouch* __restrict__ views,
                                   const float* __restrict__ x, float* __restrict__ out) {
  const int pixels = args.size * args.size;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < args.n * pixels; e += step) {
    const int64_t picture = e / pixels;
    const int pixel = int(e - picture * pixels), y = pixel / args.size;
    const PaddedCrop crop = views[picture].crop;
    const int row = crop.row(y, args.size), column = crop.column(pixel - y * args.size, args.size);
    const bool added = row < 0 || column < 0;
    const float* from = x + (picture * pixels + (added ? 0 : row * args.size + column)) * 3;
#pragma unroll
    for (int c = 0; c < 3; ++c) out[e * 3 + c] = added ? args.fill[c] : from[c];
  }
}

__device__ MixView mix_of(const MixView* mix, int64_t i) { return mix ? mix[i] : MixView{1, int32_t(i)}; }

/// Whether a pixel of a picture of `side` columns is the partner's.
__device__ bool is_cut(const MixView& m, int64_t pixel, int side) {
  const int y = int(pixel / side);
  return m.cut.holds(y, int(pixel - int64_t(y) * side));
}

/// Blocks walk a row in steps of the grid's width; N elements a thread.
template <class From, class To, int N>
__global__ void mixup_kernel(int64_t row, const MixView* __restrict__ mix, const From* __restrict__ x,
                             To* __restrict__ y, unsigned blocks_per_row, int side) {
  const int64_t i = blockIdx.x / blocks_per_row;
  const MixView m = mix_of(mix, i);
  const float rest = 1 - m.weight;
  const bool cut = m.cut.height > 0;
  const auto* a = reinterpret_cast<const Pack<From, N>*>(x + i * row);
  const auto* b = reinterpret_cast<const Pack<From, N>*>(x + m.partner * row);
  auto* to = reinterpret_cast<Pack<To, N>*>(y + i * row);
  const int64_t packs = row / N, step = int64_t(blocks_per_row) * blockDim.x;
  for (int64_t p = int64_t(blockIdx.x % blocks_per_row) * blockDim.x + threadIdx.x; p < packs; p += step) {
    const Pack<From, N> u = a[p], v = rest == 0 && !cut ? u : b[p];
    Pack<To, N> w;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float one = float(u.v[k]), other = float(v.v[k]);
      if (cut)
        w.v[k] = To(is_cut(m, (p * N + k) / 3, side) ? other : one);
      else
        w.v[k] = To(rest == 0 ? one : fmaf(m.weight, one, rest * other));
    }
    to[p] = w;
  }
}

template <class To>
__global__ void mixup_padded_kernel(int64_t n, int64_t pixels, int channels, int side,
                                    const MixView* __restrict__ mix, const float* __restrict__ x,
                                    To* __restrict__ y) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n * pixels * channels; e += step) {
    const int64_t pixel = e / channels, i = pixel / pixels;
    const int c = int(e - pixel * channels);
    float value = 0;
    if (c < 3) {
      const MixView m = mix_of(mix, i);
      value = x[pixel * 3 + c];
      const int64_t other = (pixel + (m.partner - i) * pixels) * 3 + c;
      if (m.cut.height > 0)
        value = is_cut(m, pixel - i * pixels, side) ? x[other] : value;
      else if (m.weight != 1)
        value = fmaf(m.weight, value, (1 - m.weight) * x[other]);
    }
    y[e] = To(value);
  }
}

__global__ void gather_labels_kernel(int64_t n, const int64_t* __restrict__ labels,
                                     const int64_t* __restrict__ index, int64_t* __restrict__ y) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = labels[index ? index[i] : i];
}

__global__ void mix_targets_kernel(int64_t n, int64_t classes, const MixView* __restrict__ mix,
                                   const int64_t* __restrict__ labels, float* __restrict__ targets) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n * classes; e += step) {
    const int64_t i = e / classes, label = e - i * classes;
    const MixView m = mix_of(mix, i);
    targets[e] = (labels[i] == label ? m.weight : 0.0f) + (labels[m.partner] == label ? 1 - m.weight : 0.0f);
  }
}

/// The side of a square picture, in which a box may be cut.
int side_of(int64_t pixels) { return std::max(int(std::lround(std::sqrt(double(pixels)))), 1); }

template <class From, class To, int N>
void start_mixup(int64_t n, int64_t row, const MixView* mix, const From* x, To* y) {
  constexpr int threads = 256;
  const unsigned blocks = blocks_for(row / N, threads * 2, (int64_t{1} << 30) / n);
  launch(mixup_kernel<From, To, N>, dim3(unsigned(n) * blocks), dim3(threads), row, mix, x, y, blocks,
         side_of(row / 3));
}

}  // namespace

template <class T>
void augment(const AugmentArgs& args, const PictureView* pictures, const uint8_t* pixels, T* out) {
  if (args.n == 0) return;
  const int column_tiles = (args.size + kColumns - 1) / kColumns, row_tiles = (args.size + kRows - 1) / kRows;
  const int columns = (args.size + column_tiles - 1) / column_tiles;  // of about the same width
  const int threads = (3 * columns + kWarp - 1) / kWarp * kWarp;
  launch(augment_kernel<T>, dim3(unsigned(args.n * row_tiles * column_tiles)), dim3(unsigned(threads)), args,
         row_tiles, column_tiles, columns, pictures, pixels, out);
}

void padded_crop(const PaddedCropArgs& args, const Retouch* views, const float* x, float* out) {
  const int64_t pixels = args.n * args.size * args.size;
  if (pixels > 0)
    launch(padded_crop_kernel, dim3(blocks_for(pixels, 256, 16 * multiprocessors())), dim3(256), args, views,
           x, out);
}

template <class From, class To>
void mixup(int64_t n, int64_t row, const MixView* mix, const From* x, To* y) {
  if (n == 0 || row == 0) return;
  constexpr int wide = 16 / sizeof(From);
  const auto aligned = [](const void* p, size_t bytes) {
    return reinterpret_cast<uintptr_t>(p) % bytes == 0;
  };
  if (row % wide == 0 && aligned(x, 16) && aligned(y, wide * sizeof(To)))
    start_mixup<From, To, wide>(n, row, mix, x, y);
  else
    start_mixup<From, To, 1>(n, row, mix, x, y);
}

template <class To>
void mixup_padded(int64_t n, int64_t pixels, int channels, const MixView* mix, const float* x, To* y) {
  if (n * pixels > 0)
    launch(mixup_padded_kernel<To>, dim3(blocks_for(n * pixels * channels, 256, 16 * multiprocessors())),
           dim3(256), n, pixels, channels, side_of(pixels), mix, x, y);
}

void gather_labels(int64_t n, const int64_t* labels, const int64_t* index, int64_t* y) {
  if (n > 0) launch(gather_labels_kernel, dim3(blocks_for(n, 128)), dim3(128), n, labels, index, y);
}

void mix_targets(int64_t n, int64_t classes, const MixView* mix, const int64_t* labels, float* targets) {
  if (n * classes > 0)
    launch(mix_targets_kernel, dim3(blocks_for(n * classes, 128, 1024)), dim3(128), n, classes, mix, labels,
           targets);
}

#define WEFT_AUGMENT(T)                                                              \
  template void augment(const AugmentArgs&, const PictureView*, const uint8_t*, T*); \
  template void mixup(int64_t, int64_t, const MixView*, const T*, T*);               \
  template void mixup_padded(int64_t, int64_t, int, const MixView*, const float*, T*);
WEFT_AUGMENT(float)
WEFT_AUGMENT(bf16)
WEFT_AUGMENT(f16)
template void mixup(int64_t, int64_t, const MixView*, const float*, bf16*);
template void mixup(int64_t, int64_t, const MixView*, const float*, f16*);

}  // namespace weft::kernels::cuda
