// Elements by their index. An index is i64; on the CPU one outside of the dimension is an Error, on a GPU
// indices are not looked at: what such a one names is NaN, and nothing is added there.
#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// y[..][i][..] = x[..][index[..][i][..]][..] in dimension `dim`, of the index's shape, which is x's but for
/// the size of `dim`. On the CPU x may be i64 or u8, too.
Tensor gather(const Tensor& x, int dim, const Tensor& index);
/// Slices of x in the order of an index [k]: y[..][i][..] = x[..][index[i]][..].
Tensor index_select(const Tensor& x, int dim, const Tensor& index);
/// x with what `src` has added: y[..][index[..][i][..]][..] += src[..][i][..], the index having the shape of
/// src, which is x's but for the size of `dim`. Each sum is made in the order of i, so it has the same bits
/// for any number of threads.
Tensor scatter_add(const Tensor& x, int dim, const Tensor& index, const Tensor& src);

}  // namespace weft
