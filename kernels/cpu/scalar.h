// Entries of the CPU tables that gain nothing from SIMD: one version for all instruction sets. What each
// computes stands in kernels/kernels.h.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::scalar {

void argmax(int64_t rows, int64_t cols, const float* x, int64_t* y);
void batch_norm_update(int64_t rows, int64_t channels, double eps, double momentum, const float* mean,
                       const float* var, float* running_mean, float* running_var, float* invstd);
void spectral_norm_forward(const SpectralNormArgs<float>& a, float* left, float* right, float* left_now,
                           float* right_now, float* sigma, float* y);
void spectral_norm_backward(int64_t rows, int64_t cols, const float* left, const float* right,
                            const float* sigma, const float* y, const float* dy, float* dw);
void argsort(int64_t outer, int64_t size, int64_t inner, int64_t k, bool descending, const float* x,
             int64_t* index);
void cumsum(int64_t outer, int64_t size, int64_t inner, bool reverse, const float* x, float* y);
void cross_entropy_forward(const CrossEntropyArgs<float>& a, float* log_p, float* loss);
void cross_entropy_backward(const CrossEntropyArgs<float>& a, const float* log_p, const float* dloss,
                            float* dx);

}  // namespace weft::kernels::scalar
