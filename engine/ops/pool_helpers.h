// Not part of the public API: what pooling ops have in common.
#pragma once

#include <memory>

#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/pool.h"

namespace weft::ops {

/// The kernels' geometry. Throws unless x is [N, H, W, C], not empty, and the windows fit.
kernels::Pool2dParams pool_geometry(const char* op, const Tensor& x, const Pool2dOptions& o);
/// "3x3 stride 2 pad 1", where a tape records.
std::string describe_pool(const kernels::Pool2dParams& p);

/// The backward of avg_pool2d, recorded.
Tensor avg_pool2d_backward(const kernels::Pool2dParams& p, const Tensor& dy);

/// Of each output, the place h * in_w + w in its image that won: int32.
using MaxIndex = std::shared_ptr<Storage>;
/// dx[index[o]] += dy[o], the backward of max_pool2d, in recorded ops.
Tensor scatter_to_maxima(const kernels::Pool2dParams& p, const MaxIndex& index, const Tensor& dy);

}  // namespace weft::ops
