// Convolutions with 1x1 filters as products, which do what the next kernel would read the result for.
#pragma once

#include <cstdint>

namespace weft::kernels::cuda {

/// Whether there are such products of [rows, k] and [k, n] in T: in 16 bits, where n is a multiple of 64 and
/// k is 64, 128 (n then a multiple of that) or 256.
template <class T>
bool has_conv_product(int64_t rows, int64_t n, int64_t k);

/// y [rows, n] = x [rows, k] w' with w [n, k]; mean and biased variance of y's columns, [n] each, as its
/// values were before they were rounded. All is aligned to 16 bytes.
template <class T>
void conv_product_stats(int64_t rows, int64_t n, int64_t k, const T* x, const T* w, T* y, float* mean,
                        float* var);

/// y [rows, n] += x [rows, k] w with w [k, n], likewise.
template <class T>
void conv_product_add(int64_t rows, int64_t n, int64_t k, const T* x, const T* w, T* y);

}  // namespace weft::kernels::cuda
