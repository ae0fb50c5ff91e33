#include "weft/kernels/cuda/metrics.h"

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/reduction.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

/// The first maximum of a row, a warp's work; NaN counts as the largest.
template <class T>
__device__ inline int64_t argmax(int64_t cols, const T* row) {
  Best best;
  for (int64_t c = threadIdx.x % kWarp; c < cols; c += kWarp) best.meet(float(row[c]), c);
  best.join_warp();
  return best.at;
}

__device__ unsigned arrivals;  // one stream, so that no two kernels use it at once

/// partial: [gridDim.x], how many of each block's rows are right.
template <class T>
__global__ void __launch_bounds__(kThreads)
    metrics_kernel(int64_t rows, int64_t cols, const T* logits, const int64_t* labels, const float* loss,
                   unsigned long long* partial, double* totals) {
  wait_for_earlier();
  __shared__ unsigned long long room[kWarps];
  const int warp = int(threadIdx.x) / kWarp;
  unsigned long long correct = 0;
  for (int64_t row = int64_t(blockIdx.x) * kWarps + warp; row < rows; row += int64_t(gridDim.x) * kWarps)
    if (argmax(cols, logits + row * cols) == labels[row]) ++correct;
  if (threadIdx.x % kWarp == 0) room[warp] = correct;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int other = 1; other < kWarps; ++other) correct += room[other];
    partial[blockIdx.x] = correct;
  }
  if (!last_to_arrive(&arrivals, gridDim.x)) return;
  if (warp > 0) return;
  correct = 0;
  for (int block = int(threadIdx.x); block < int(gridDim.x); block += kWarp) correct += partial[block];
  correct = warp_sum(correct);
  if (threadIdx.x > 0) return;
  const float mean = *loss;
  totals[kMetricLoss] += double(mean) * double(rows);
  totals[kMetricCorrect] += double(correct);
  totals[kMetricRows] += double(rows);
  if (mean - mean != 0) totals[kMetricNotFinite] += 1;
}

}  // namespace

template <class T>
void accumulate_metrics(int64_t rows, int64_t cols, const T* logits, const int64_t* labels, const float* loss,
                        double* totals) {
  const unsigned blocks = blocks_for(rows, kWarps, multiprocessors());
  auto* partial = static_cast<unsigned long long*>(scratch(int64_t(sizeof(unsigned long long)) * blocks));
  launch_early(metrics_kernel<T>, blocks, kThreads, rows, cols, logits, labels, loss, partial, totals);
}

template void accumulate_metrics(int64_t, int64_t, const float*, const int64_t*, const float*, double*);
template void accumulate_metrics(int64_t, int64_t, const bf16*, const int64_t*, const float*, double*);
template void accumulate_metrics(int64_t, int64_t, const f16*, const int64_t*, const float*, double*);

}  // namespace weft::kernels::cuda
