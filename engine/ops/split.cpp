#include "weft/engine/ops/split.h"

#include <algorithm>

#include "weft/engine/ops/helpers.h"

namespace weft {

std::vector<Tensor> split(const Tensor& x, int64_t size, int dim) {
  check(size >= 1, "split: pieces of ", size, "; they must have at least one element");
  const int64_t whole = x.size(x.shape().index(dim, "split"));
  std::vector<Tensor> pieces;
  int64_t at = 0;
  do pieces.push_back(narrow(x, dim, at, std::min(size, whole - at)));
  while ((at += size) < whole);
  return pieces;
}

Tensor stack(const std::vector<Tensor>& tensors, int dim) {
  check(!tensors.empty(), "stack: no tensors given");
  const Shape& first = tensors[0].shape();
  check(dim >= -first.ndim() - 1 && dim <= first.ndim(), "stack: dimension ", dim,
        " is out of range for tensors of shape ", first);
  const int at = dim < 0 ? dim + first.ndim() + 1 : dim;
  std::vector<int64_t> sizes(first.begin(), first.end());
  sizes.insert(sizes.begin() + at, 1);
  std::vector<Tensor> parts;
  for (const Tensor& t : tensors) {
    check(t.shape() == first, "stack: shapes ", first, " and ", t.shape(), " differ");
    parts.push_back(reshape(t, sizes));
  }
  return concat(parts, at);
}

Tensor pad(const Tensor& x, const std::vector<int64_t>& padding) {
  check(padding.size() % 2 == 0 && int(padding.size()) <= 2 * x.ndim(), "pad: ", padding.size(),
        " sizes given for shape ", x.shape(), "; two for each dimension to be padded, the last one first");
  Tensor y = x;
  for (int i = 0; i < int(padding.size()) / 2; ++i) {
    const int d = x.ndim() - 1 - i;
    const int64_t before = padding[size_t(2 * i)], after = padding[size_t(2 * i + 1)];
    check(before >= 0 && after >= 0, "pad: ", before, " and ", after, " of dimension ", d,
          " must not be negative; narrow() cuts");
    int64_t whole;
    check(!__builtin_add_overflow(before, after, &whole) && !__builtin_add_overflow(whole, y.size(d), &whole),
          "pad: dimension ", d, " of shape ", x.shape(), " with ", before, " and ", after,
          " around it is larger than a tensor can be; pad it by less");
    if (before > 0 || after > 0) y = ops::zeros_around("pad", y, d, before, whole);
  }
  return y;
}

}  // namespace weft
