// Matrix products.
#pragma once

#include "weft/engine/packed_weight.h"
#include "weft/engine/tensor.h"

namespace weft {

struct MatmulOptions {
  bool transpose_a = false, transpose_b = false;
  /// The product is known to be symmetric, as that of symmetric matrices that commute: on the CPU nearly half
  /// of a large one is then copied. X^T X and X X^T are known without.
  bool symmetric = false;
};

/// op(a) op(b) for matrices: [m, k] x [k, n] -> [m, n].
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options = {});
/// The same for a batch: [b, m, k] x [b, k, n] -> [b, m, n]; either side may be one matrix [., .] used for
/// all of the batch.
Tensor bmm(const Tensor& a, const Tensor& b, const MatmulOptions& options = {});

struct BaddbmmOptions {
  double beta = 1, alpha = 1;
  bool symmetric = false;  ///< the result is known to be
};

/// beta input + alpha a b for batches: input [b, m, n], a [b, m, k], b [b, k, n], where a or b may be one
/// matrix. With beta 0 what is in the input does not matter.
Tensor baddbmm(const Tensor& input, const Tensor& a, const Tensor& b, const BaddbmmOptions& options = {});
/// x w^T + bias: x [..., in], w [out, in], bias [out] or undefined -> [..., out]. With `packed` a parameter's
/// packed form is kept there.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, PackedWeight* packed = nullptr);

}  // namespace weft
