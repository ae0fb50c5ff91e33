#include "weft/kernels/cuda/convolution_kernels.h"

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kBlock = 256;

template <class T>
__global__ void __launch_bounds__(kBlock)
    add_bias_kernel(int64_t n, int64_t channels, const T* bias, T* __restrict__ y) {
  const int64_t step = int64_t(gridDim.x) * kBlock;
  int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  // The channel goes along with i, without a division for each element.
  const int64_t channel_step = step % channels;
  int64_t c = i % channels;
  for (; i < n; i += step) {
    y[i] = T(float(y[i]) + float(bias[c]));
    c += channel_step;
    if (c >= channels) c -= channels;
  }
}

constexpr int kRows = 4;  // of a thread: so many loads are under way

/// Neighbouring threads have neighbouring rows, and write them in one piece.
__global__ void __launch_bounds__(kBlock)
    pad_kernel(int64_t rows, int channels, const uint16_t* x, uint16_t* __restrict__ padded) {
  wait_for_earlier();
  const int64_t first = int64_t(blockIdx.x) * (kBlock * kRows) + threadIdx.x;
  Pack<uint16_t, 8> row[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int64_t r = first + i * kBlock;
#pragma unroll
    for (int c = 0; c < 8; ++c) row[i].v[c] = c < channels && r < rows ? x[r * channels + c] : uint16_t{0};
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int64_t r = first + i * kBlock;
    if (r < rows) store(padded + r * 8, row[i]);
  }
}

__global__ void __launch_bounds__(kBlock)
    cut_kernel(int64_t rows, int channels, int width, const uint16_t* padded, uint16_t* __restrict__ y) {
  wait_for_earlier();
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (i < rows * channels) y[i] = padded[i / channels * width + i % channels];
}

/// What the kernels need of Conv2dParams.
struct Shape {
  int64_t N, H, W, C, OH, OW, OC, IC, per_group;  // IC: inputs, per_group: outputs of a group
  int64_t kh, kw, sh, sw, ph, pw, dh, dw;
};

Shape shape_of(const Conv2dParams& p) {
  return {p.batch,
          p.in_h,
          p.in_w,
          p.in_c,
          p.out_h(),
          p.out_w(),
          p.out_c,
          p.in_c / p.groups,
          p.out_c / p.groups,
          p.kernel_h,
          p.kernel_w,
          p.stride_h,
          p.stride_w,
          p.pad_h,
          p.pad_w,
          p.dilation_h,
          p.dilation_w};
}

template <class T>
__global__ void __launch_bounds__(kBlock) forward_kernel(Shape s, const T* x, const T* w, T* __restrict__ y) {
  const int64_t n = s.N * s.OH * s.OW * s.OC;
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < n; i += int64_t(gridDim.x) * kBlock) {
    const int64_t oc = i % s.OC, pixel = i / s.OC, ow = pixel % s.OW, row = pixel / s.OW;
    const int64_t oh = row % s.OH, image = row / s.OH;
    float sum = 0;
    for (int64_t kh = 0; kh < s.kh; ++kh) {
      const int64_t ih = oh * s.sh - s.ph + kh * s.dh;
      if (ih < 0 || ih >= s.H) continue;
      for (int64_t kw = 0; kw < s.kw; ++kw) {
        const int64_t iw = ow * s.sw - s.pw + kw * s.dw;
        if (iw < 0 || iw >= s.W) continue;
        const T* a = x + ((image * s.H + ih) * s.W + iw) * s.C + oc / s.per_group * s.IC;
        const T* b = w + ((oc * s.kh + kh) * s.kw + kw) * s.IC;
        for (int64_t c = 0; c < s.IC; ++c) sum += float(a[c]) * float(b[c]);
      }
    }
    y[i] = T(sum);
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    backward_input_kernel(Shape s, const T* dy, const T* w, T* __restrict__ dx) {
  const int64_t n = s.N * s.H * s.W * s.C;
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < n; i += int64_t(gridDim.x) * kBlock) {
    const int64_t c = i % s.C, pixel = i / s.C, iw = pixel % s.W, row = pixel / s.W;
    const int64_t ih = row % s.H, image = row / s.H, group = c / s.IC, ic = c % s.IC;
    float sum = 0;
    for (int64_t kh = 0; kh < s.kh; ++kh) {
      const int64_t h = ih + s.ph - kh * s.dh;
      if (h < 0 || h % s.sh != 0 || h / s.sh >= s.OH) continue;
      for (int64_t kw = 0; kw < s.kw; ++kw) {
        const int64_t v = iw + s.pw - kw * s.dw;
        if (v < 0 || v % s.sw != 0 || v / s.sw >= s.OW) continue;
        const int64_t first = group * s.per_group;
        const T* a = dy + ((image * s.OH + h / s.sh) * s.OW + v / s.sw) * s.OC + first;
        const T* b = w + ((first * s.kh + kh) * s.kw + kw) * s.IC + ic;
        for (int64_t oc = 0; oc < s.per_group; ++oc, b += s.kh * s.kw * s.IC) sum += float(a[oc]) * float(*b);
      }
    }
    dx[i] = T(sum);
  }
}

/// One weight a block; its threads share the pixels.
template <class T>
__global__ void __launch_bounds__(kBlock)
    backward_weight_kernel(Shape s, const T* x, const T* dy, T* __restrict__ dw) {
  __shared__ float partial[kBlock];
  const int64_t n = s.OC * s.kh * s.kw * s.IC, pixels = s.N * s.OH * s.OW;
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    const int64_t ic = i % s.IC, tap = i / s.IC, kw = tap % s.kw, kh = tap / s.kw % s.kh;
    const int64_t oc = tap / s.kw / s.kh, c = oc / s.per_group * s.IC + ic;
    float sum = 0;
    for (int64_t pixel = threadIdx.x; pixel < pixels; pixel += kBlock) {
      const int64_t ow = pixel % s.OW, row = pixel / s.OW, oh = row % s.OH, image = row / s.OH;
      const int64_t ih = oh * s.sh - s.ph + kh * s.dh, iw = ow * s.sw - s.pw + kw * s.dw;
      if (ih < 0 || ih >= s.H || iw < 0 || iw >= s.W) continue;
      sum += float(dy[pixel * s.OC + oc]) * float(x[((image * s.H + ih) * s.W + iw) * s.C + c]);
    }
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int half = kBlock / 2; half > 0; half /= 2) {
      if (int(threadIdx.x) < half) partial[threadIdx.x] += partial[threadIdx.x + half];
      __syncthreads();
    }
    if (threadIdx.x == 0) dw[i] = T(partial[0]);
    __syncthreads();
  }
}

/// Blocks for n items at `per_block`, some rounds of the whole device at most.
dim3 grid_for(int64_t n, int64_t per_block) {
  return dim3(blocks_for(n, per_block, int64_t(multiprocessors()) * 32));
}

}  // namespace

template <class T>
void add_bias(int64_t rows, int64_t channels, const T* bias, T* y) {
  const int64_t n = rows * channels;
  if (n > 0) launch(add_bias_kernel<T>, grid_for(n, kBlock * 4), dim3(kBlock), n, channels, bias, y);
}

void pad_channels(int64_t rows, int64_t channels, const uint16_t* x, uint16_t* padded) {
  launch_early(pad_kernel, dim3(blocks_for(rows, kBlock * kRows)), dim3(kBlock), rows, channels, x, padded);
}

void cut_channels(int64_t rows, int64_t channels, int64_t width, const uint16_t* padded, uint16_t* y) {
  launch_early(cut_kernel, dim3(blocks_for(rows * channels, kBlock)), dim3(kBlock), rows, channels, width,
               padded, y);
}

template <class T>
void plain_convolution(ConvPass pass, const Conv2dParams& p, T* x, T* w, T* y) {
  const Shape s = shape_of(p);
  switch (pass) {
    case ConvPass::forward:
      launch(forward_kernel<T>, grid_for(s.N * s.OH * s.OW * s.OC, kBlock), dim3(kBlock), s, x, w, y);
      break;
    case ConvPass::backward_input:
      launch(backward_input_kernel<T>, grid_for(s.N * s.H * s.W * s.C, kBlock), dim3(kBlock), s, y, w, x);
      break;
    case ConvPass::backward_weight:
      launch(backward_weight_kernel<T>, grid_for(s.OC * s.kh * s.kw * s.IC, 1), dim3(kBlock), s, x, y, w);
      break;
  }
}

#define WEFT_CONVOLUTION(T)                                  \
  template void add_bias<T>(int64_t, int64_t, const T*, T*); \
  template void plain_convolution<T>(ConvPass, const Conv2dParams&, T*, T*, T*);
WEFT_CONVOLUTION(float)
WEFT_CONVOLUTION(bf16)
WEFT_CONVOLUTION(f16)

}  // namespace weft::kernels::cuda
