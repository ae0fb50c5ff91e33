#include "weft/kernels/cuda/plain_product.h"

#include <cstdlib>
#include <cstring>

#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kBlock = 256;

/// A thread has one element of d at a time.
template <class T>
__global__ void __launch_bounds__(kBlock)
    plain_product_kernel(GemmParams p, float alpha, const T* __restrict__ a, const T* __restrict__ b,
                         float beta, const T* c, T* d) {
  const int64_t a_row = p.transpose_a ? 1 : p.lda, a_step = p.transpose_a ? p.lda : 1;
  const int64_t b_col = p.transpose_b ? p.ldb : 1, b_step = p.transpose_b ? 1 : p.ldb;
  const int64_t n = p.batch * p.m * p.n;
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < n; i += int64_t(gridDim.x) * kBlock) {
    const int64_t col = i % p.n, row = i / p.n % p.m, matrix = i / p.n / p.m;
    const T *at_a = a + matrix * p.stride_a + row * a_row, *at_b = b + matrix * p.stride_b + col * b_col;
    float sum = 0;
    for (int64_t k = 0; k < p.k; ++k) sum += float(at_a[k * a_step]) * float(at_b[k * b_step]);
    const int64_t at = matrix * p.stride_c + row * p.ldc + col;
    sum *= alpha;
    if (p.accumulate && beta != 0) sum += beta * float(c[at]);
    d[at] = T(sum);
  }
}

}  // namespace

bool own_kernels_only() {
  static const bool set = [] {
    const char* given = std::getenv("WEFT_CUDA_OWN_KERNELS");
    return given && std::strcmp(given, "1") == 0;
  }();
  return set;
}

template <class T>
void plain_product(const GemmParams& p, float alpha, const T* a, const T* b, float beta, const T* c, T* d) {
  const dim3 grid(blocks_for(p.batch * p.m * p.n, kBlock, int64_t(multiprocessors()) * 32));
  launch(plain_product_kernel<T>, grid, dim3(kBlock), p, alpha, a, b, beta, c, d);
}

#define WEFT_PLAIN_PRODUCT(T) \
  template void plain_product(const GemmParams&, float, const T*, const T*, float, const T*, T*);
WEFT_PLAIN_PRODUCT(float)
WEFT_PLAIN_PRODUCT(bf16)
WEFT_PLAIN_PRODUCT(f16)

}  // namespace weft::kernels::cuda
