// How training goes, summed up in the GPU's memory, so that no step waits for it.
#pragma once

#include <cstdint>

namespace weft::kernels::cuda {

/// What accumulate_metrics() adds up, by its place in the totals.
enum { kMetricLoss, kMetricCorrect, kMetricRows, kMetricNotFinite, kMetricCount };

/// For logits [rows, cols] and labels [rows] with their mean loss[0], all of them and totals [kMetricCount]
/// on the device: adds loss * rows, the number of rows whose largest logit (the first such, or the first NaN)
/// is the label's, rows, and 1 if the loss is not finite. T: float, bf16, f16.
template <class T>
void accumulate_metrics(int64_t rows, int64_t cols, const T* logits, const int64_t* labels, const float* loss,
                        double* totals);

}  // namespace weft::kernels::cuda
