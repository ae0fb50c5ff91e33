// Convolutions by kernels of our own that tell the statistics of their output.
#pragma once

#include "weft/kernels/cuda/conv_few.h"
#include "weft/kernels/cuda/conv_geometry.h"
#include "weft/kernels/cuda/conv_product.h"

namespace weft::kernels::cuda {

/// Whether there is one in T.
template <class T>
bool has_conv_stats(const Conv2dParams& p) {
  return is_product(p) ? has_conv_product<T>(pixels_of(p), p.out_c, p.in_c) : has_conv_few<T>(p);
}
/// y = x * w, with mean and biased variance of its channels. x, w and y are aligned to 16 bytes.
template <class T>
void conv_stats(const Conv2dParams& p, const T* x, const T* w, T* y, float* mean, float* var) {
  is_product(p) ? conv_product_stats(pixels_of(p), p.out_c, p.in_c, x, w, y, mean, var)
                : conv_few_stats(p, x, w, y, mean, var);
}

}  // namespace weft::kernels::cuda
