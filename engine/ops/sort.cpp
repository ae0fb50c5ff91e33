#include "weft/engine/ops/sort.h"

#include "weft/engine/ops/gather_helpers.h"
#include "weft/engine/ops/helpers.h"

namespace weft {
namespace {

/// The indices of the first k.
Tensor first(const char* op, const Tensor& x, int64_t k, int dim, bool descending) {
  const int d = x.shape().index(dim, op);
  const int64_t size = x.size(d);
  check(k >= 0 && k <= size, op, ": ", k, " of the ", size, " elements in dimension ", dim, " of ",
        x.shape());
  check(size < int64_t{1} << 32, op, ": dimension ", dim, " of ", x.shape(), " has 2^32 elements or more");
  Shape shape = x.shape();
  shape.set(d, k);
  const Tensor y = Tensor::empty(shape, DType::i64, x.device());
  dispatch(op, x, [&](const auto& kernels) {
    using T = kernel_type<decltype(kernels)>;
    if (y.numel() > 0)
      kernels.argsort(shape.numel(0, d), size, shape.numel(d + 1, shape.ndim()), k, descending, x.data<T>(),
                      y.data<int64_t>());
  });
  return y;
}

/// x at indices that first() has given, which need no look at whether they are inside.
Sorted with_values(const Tensor& x, int dim, const Tensor& indices) {
  const ops::Places places{
      .shape = x.shape(), .dim = x.shape().index(dim), .index = indices, .for_each = true};
  return {ops::gathered("gather", x, places, indices.shape()), indices};
}

}  // namespace

Sorted sort(const Tensor& x, int dim, bool descending) {
  return with_values(x, dim, argsort(x, dim, descending));
}
Tensor argsort(const Tensor& x, int dim, bool descending) {
  return first("sort", x, x.size(x.shape().index(dim, "sort")), dim, descending);
}
Sorted topk(const Tensor& x, int64_t k, int dim, bool largest) {
  return with_values(x, dim, first("topk", x, k, dim, largest));
}

}  // namespace weft
