// Matrix products with a side too short for the register tile, which would spend its time on packing: they
// read their operands where these lie.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::WEFT_ISA {

/// One product of a batch.
using Product = void (*)(const GemmParams& p, const float* a, const float* b, float* c);

/// How to compute a product with a vector, an outer product or a tiny one; null where the register tile is
/// to.
Product thin_product(const GemmParams& p);

/// Operands in exchange: op(b)^T op(a)^T = c^T. ldc stays.
inline GemmParams exchanged(GemmParams p) {
  const GemmParams q = p;
  p.m = q.n, p.n = q.m;
  p.transpose_a = !q.transpose_b, p.transpose_b = !q.transpose_a;
  p.lda = q.ldb, p.ldb = q.lda;
  p.stride_a = q.stride_b, p.stride_b = q.stride_a;
  return p;
}

}  // namespace weft::kernels::WEFT_ISA
