// What is done to gradients before the update.
#include "weft/kernels/cuda/multi_tensor.cuh"
#include "weft/kernels/updates/gradients.h"

namespace weft::kernels::cuda {
namespace {

/// Runs body(element) on the elements of this block's chunk, which it may change where `write`.
template <bool write, class Body>
__device__ void for_chunk(const GradientLaunch& launch, Body body) {
  const ChunkPlace place = find_chunk(launch.tensors, launch.first);
  const GradientRecord& record = launch.records[place.tensor];
  const int n = chunk_size(record.n, place.begin);
  float* g = record.g + place.begin;
  int done = 0;
  if (wide(g)) {
    done = n / 4 * 4;
    for (int i = int(threadIdx.x) * 4; i < done; i += kUpdateThreads * 4) {
      Quad q = load<4>(g + i);
      for (int j = 0; j < 4; ++j) body(q.v[j]);
      if constexpr (write) store(g + i, q);
    }
  }
  for (int i = done + int(threadIdx.x); i < n; i += kUpdateThreads) {
    float x = g[i];
    body(x);
    if constexpr (write) g[i] = x;
  }
}

__global__ void __launch_bounds__(kUpdateThreads)
    norm_kernel(GradientLaunch launch, double max_norm, ClipResult* result) {
  double sums[1] = {};
  for_chunk<false>(launch, [&](float g) { sums[0] += double(g) * double(g); });
  block_sum(sums);
  if (sum_over_blocks<1>(sums, launch.partial, int(blockIdx.x), int(gridDim.x), &result->arrived) &&
      threadIdx.x == 0) {
    result->norm = sqrt(sums[0]);
    result->factor = float(max_norm / (result->norm + 1e-6));
  }
}

__global__ void __launch_bounds__(kUpdateThreads)
    scale_kernel(GradientLaunch launch, const ClipResult* result) {
  const float factor = result->factor;
  if (factor >= 1) return;  // a NaN is not, and goes into the gradients
  for_chunk<true>(launch, [=](float& g) { g *= factor; });
}

__global__ void __launch_bounds__(kUpdateThreads) clip_kernel(GradientLaunch launch, float limit) {
  for_chunk<true>(launch, [=](float& g) { g = updates::clip_value(g, limit); });
}

__global__ void __launch_bounds__(kUpdateThreads)
    unscale_kernel(GradientLaunch launch, const float* scale, float* found) {
  const float inverse = float(1 / double(*scale));
  bool finite = true;
  for_chunk<true>(launch, [&](float& g) { finite = updates::unscale(g, inverse) && finite; });
  if (!finite) *found = 1;  // all who write, write the same
}

__global__ void loss_scale_kernel(updates::LossScaleRule rule, float* scale, float* found, int64_t* left_out,
                                  int64_t* tracker, int64_t* skipped) {
  rule.after_step(*scale, found, left_out, *tracker, *skipped);
}

}  // namespace

void gradient_norm(const GradientLaunch& l, double max_norm, ClipResult* result) {
  if (l.chunks > 0) launch(norm_kernel, unsigned(l.chunks), kUpdateThreads, l, max_norm, result);
}
void scale_gradients(const GradientLaunch& l, const ClipResult* result) {
  if (l.chunks > 0) launch(scale_kernel, unsigned(l.chunks), kUpdateThreads, l, result);
}
void clip_gradients(const GradientLaunch& l, float limit) {
  if (l.chunks > 0) launch(clip_kernel, unsigned(l.chunks), kUpdateThreads, l, limit);
}
void unscale_gradients(const GradientLaunch& l, const float* scale, float* found) {
  if (l.chunks > 0) launch(unscale_kernel, unsigned(l.chunks), kUpdateThreads, l, scale, found);
}
void update_loss_scale(const updates::LossScaleRule& rule, float* scale, float* found, int64_t* left_out,
                       int64_t* tracker, int64_t* skipped) {
  launch(loss_scale_kernel, 1, 1, rule, scale, found, left_out, tracker, skipped);
}

}  // namespace weft::kernels::cuda
