#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

template <class T>
void gemm(const GemmParams& p, const T* a, const T* b, T* c) {
  // Steps along the rows and the columns of op(a) and op(b).
  const int64_t a_row = p.transpose_a ? 1 : p.lda, a_col = p.transpose_a ? p.lda : 1;
  const int64_t b_row = p.transpose_b ? 1 : p.ldb, b_col = p.transpose_b ? p.ldb : 1;
  for (int64_t batch = 0; batch < p.batch; ++batch, a += p.stride_a, b += p.stride_b, c += p.stride_c)
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = 0; j < p.n; ++j) {
        double sum = p.accumulate ? double(c[i * p.ldc + j]) : 0;
        for (int64_t k = 0; k < p.k; ++k)
          sum += double(a[i * a_row + k * a_col]) * double(b[k * b_row + j * b_col]);
        c[i * p.ldc + j] = T(sum);
      }
}

}  // namespace

template <class T>
void set_gemm(KernelTable<T>& table) {
  table.gemm = gemm<T>;
}

template void set_gemm(KernelTable<float>&);
template void set_gemm(KernelTable<double>&);

}  // namespace weft::kernels::plain
