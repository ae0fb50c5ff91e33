// What ops tell a Trace of themselves where no options of theirs say it all. conv2d tells its Conv2dOptions,
// conv_transpose2d the kernels::Conv2dParams of the convolution that leads back, pools their
// kernels::Pool2dParams, products of matrices their MatmulOptions.
#pragma once

#include <cstdint>
#include <vector>

#include "weft/engine/ops/batch_norm.h"
#include "weft/engine/tensor.h"
#include "weft/kernels/activation.h"

namespace weft {

/// activation(), learned_activation() (param: 0) and add_activation().
struct TracedActivation {
  Activation activation;
  double param;
};

/// batch_norm(). Its inputs are x, weight, bias, the residual and the learned parameters.
struct TracedBatchNorm {
  BatchNormOptions options;
  bool training;
  Tensor running_mean, running_var;
};

/// layer_norm(): over the last `width` elements.
struct TracedLayerNorm {
  int64_t width;
  double eps;
};

/// masked_softmax().
struct TracedSoftmax {
  double scale;
  bool masked;
};

/// sum(), mean(), amax(), amin(): the dimensions that went, none: all.
struct TracedReduction {
  std::vector<int> dims;
  bool keepdim;
};

/// permute(): dimension i of the result is order[i] of the input.
struct TracedPermute {
  std::vector<int> order;
};

/// narrow(): where the result begins in the input; pad(): where the input begins in the result.
struct TracedPart {
  int dim;
  int64_t start;
};

/// concat().
struct TracedConcat {
  int dim;
};

/// affine().
struct TracedAffine {
  double scale, shift;
};

}  // namespace weft
