// Colour jitter, normalisation and erasing of whole pictures that lie in the GPU's memory as floats.
#include "weft/kernels/cuda/augment.h"
#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/reduction.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / kWarp;

__device__ void load_pixel(const float* from, float (&c)[3]) {
#pragma unroll
  for (int k = 0; k < 3; ++k) c[k] = from[k];
}

/// A block for each picture. Where contrast changes it goes through the picture once for the mean, then
/// through all of it again.
__global__ void __launch_bounds__(kThreads, 2)
    retouch_kernel(RetouchArgs args, const Retouch* __restrict__ views, float* __restrict__ pictures) {
  __shared__ float sums[kWarps];
  const Retouch view = views[blockIdx.x];
  const int pixels = args.size * args.size, thread = int(threadIdx.x);
  float* picture = pictures + int64_t(blockIdx.x) * pixels * 3;
  float mean = 0;
  if (view.jitter.contrast != 1) {  // the same for all threads
    const int before = steps_before_contrast(view.jitter);
    float sum = 0;
    for (int i = thread; i < pixels; i += kThreads) {
      float c[3];
      load_pixel(picture + int64_t(i) * 3, c);
      jitter_pixel(view.jitter, 0, before, 0, c);
      sum += luma(c);
    }
    sum = warp_sum(sum);
    if (thread % kWarp == 0) sums[thread / kWarp] = sum;
    __syncthreads();
    for (int warp = 0; warp < kWarps; ++warp) mean += sums[warp];
    mean /= float(pixels);
  }
  for (int i = thread; i < pixels; i += kThreads) {
    float* at = picture + int64_t(i) * 3;
    const int y = i / args.size, x = i - y * args.size;
    float c[3];
    load_pixel(at, c);
    jitter_pixel(view.jitter, 0, 4, mean, c);
    const bool erased = view.erased.holds(y, x);
#pragma unroll
    for (int k = 0; k < 3; ++k) at[k] = erased ? args.fill[k] : fmaf(c[k], args.scale[k], args.shift[k]);
  }
}

}  // namespace

void retouch(const RetouchArgs& args, const Retouch* views, float* pictures) {
  if (args.n > 0)
    launch(retouch_kernel, dim3(unsigned(args.n)), dim3(unsigned(kThreads)), args, views, pictures);
}

}  // namespace weft::kernels::cuda
