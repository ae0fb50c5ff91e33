#include "weft/engine/ops/shape.h"

#include <algorithm>
#include <cstring>

#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/permuted.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/trace.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/parallel.h"

namespace weft {
namespace {

/// Rows of `width` bytes between two buffers whose rows lie from_step and to_step bytes apart.
void copy_rows(Device device, const char* from, int64_t from_step, char* to, int64_t to_step, int64_t width,
               int64_t rows) {
  if (width == 0) return;  // rows without elements can be very many
  if (device == Device::cuda) return kernels::cuda::copy_rows(from, from_step, to, to_step, width, rows);
  // A task has some rows, or a part of a long one.
  constexpr int64_t kTask = 128 << 10;
  const int64_t part = std::min(width, kTask), parts = (width + part - 1) / part;
  if (parts > 1)
    return kernels::parallel_for(rows * parts, [&](int64_t task) {
      const int64_t row = task / parts, first = (task - row * parts) * part;
      std::memcpy(to + row * to_step + first, from + row * from_step + first,
                  size_t(std::min(part, width - first)));
    });
  kernels::parallel_ranges(rows, kTask / part, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) std::memcpy(to + r * to_step, from + r * from_step, size_t(width));
  });
}

}  // namespace

Tensor ops::zeros_around(const char* name, const Tensor& x, int d, int64_t start, int64_t whole) {
  Shape shape = x.shape();
  shape.set(d, whole);
  const Tensor y = Tensor::zeros(shape, x.dtype(), x.device());
  const int64_t length = x.size(d);
  // Of a tensor without elements one size can be so large that no offset in bytes holds it.
  if (x.numel() > 0) {
    const int64_t step = shape.numel(d + 1, shape.ndim()) * size_of(x.dtype());
    copy_rows(x.device(), static_cast<const char*>(x.raw()), length * step,
              static_cast<char*>(y.raw()) + start * step, whole * step, length * step, shape.numel(0, d));
  }
  record(name, {x}, {y}, [=](BackwardContext& c) { c.set(0, narrow(c.grad_output(), d, start, length)); },
         {.double_backward = true, .looks_back = false, .told = Trace::note(TracedPart{d, start})});
  return y;
}

Tensor reshape(const Tensor& x, const std::vector<int64_t>& sizes) {
  Shape shape;
  int64_t known = 1;
  int unknown = -1;
  for (int64_t s : sizes) {
    check(s >= 0 || (s == -1 && unknown < 0), "reshape: size ", s, "; only one size may be -1");
    if (s == -1)
      unknown = shape.ndim();
    else
      known *= s;
    shape.push_back(s == -1 ? 1 : s);
  }
  check(unknown < 0 || known > 0, "reshape: beside a size of 0, -1 could be any size; give it");
  if (unknown >= 0) shape.set(unknown, x.numel() / known);
  check(shape.numel() == x.numel(), "reshape: shape ", x.shape(), " has ", x.numel(),
        " elements, which don't fit ", shape);
  return ops::view_as(x, shape);
}

Tensor ops::view_as(Tensor x, const Shape& shape) {
  const Tensor y = x.view(shape);
  record("reshape", {x}, {y},
         [from = x.shape()](BackwardContext& c) { c.set(0, view_as(c.take_grad_output(), from)); },
         {.double_backward = true, .looks_back = false});
  x = {};  // it would live until the caller's expression ends, and y not be unique() in it
  return y;
}

Tensor flatten(const Tensor& x, int start) {
  const int first = x.shape().index(start, "flatten");
  std::vector<int64_t> sizes;
  for (int i = 0; i < first; ++i) sizes.push_back(x.size(i));
  sizes.push_back(x.shape().numel(first, x.ndim()));
  return reshape(x, sizes);
}

Tensor permute(const Tensor& x, const std::vector<int>& order) {
  check(int(order.size()) == x.ndim(), "permute: ", order.size(), " dimensions given for shape ", x.shape());
  std::vector<int> inverse(order.size(), -1);
  for (size_t i = 0; i < order.size(); ++i) {
    int& slot = inverse[size_t(x.shape().index(order[i], "permute"))];
    check(slot < 0, "permute: dimension ", order[i], " is given twice");
    slot = int(i);
  }
  const Tensor y = ops::permuted(x, order);
  record("permute", {x}, {y}, [inverse](BackwardContext& c) { c.set(0, permute(c.grad_output(), inverse)); },
         {.double_backward = true,
          .looks_back = false,
          .told = Trace::current() ? Trace::note(TracedPermute{order}) : std::any()});
  return y;
}

// y = x[.., start : start + length, ..]: dx is dy with zeros around it, whose gradient is the same part
// again.
Tensor narrow(const Tensor& x, int dim, int64_t start, int64_t length) {
  const int d = x.shape().index(dim, "narrow");
  check(start >= 0 && length >= 0 && start <= x.size(d) - length, "narrow: ", length, " elements from ",
        start, " on are not in dimension ", dim, " of shape ", x.shape());
  Shape shape = x.shape();
  shape.set(d, length);
  const Tensor y = ops::empty(shape, x);
  const int64_t outer = shape.numel(0, d), step = shape.numel(d + 1, shape.ndim()) * size_of(x.dtype()),
                whole = x.size(d);
  copy_rows(x.device(), static_cast<const char*>(x.raw()) + start * step, whole * step,
            static_cast<char*>(y.raw()), length * step, length * step, outer);
  record("narrow", {x}, {y},
         [=](BackwardContext& c) {
           c.set(0, ops::zeros_around("narrow_backward", c.grad_output(), d, start, whole));
         },
         {.detail = Tape::current() ? weft::concat("dim ", d, " from ", start) : "",
          .double_backward = true,
          .looks_back = false,
          .told = Trace::note(TracedPart{d, start})});
  return y;
}

Tensor concat(const std::vector<Tensor>& tensors, int dim) {
  check(!tensors.empty(), "concat: no tensors given");
  Shape shape = tensors[0].shape();
  const int d = shape.index(dim, "concat");
  int64_t total = 0;
  std::vector<int64_t> sizes;
  for (const Tensor& t : tensors) {
    ops::check_same_dtype("concat", tensors[0], t);
    bool fits = t.ndim() == shape.ndim();
    for (int i = 0; fits && i < t.ndim(); ++i) fits = i == d || t.size(i) == shape[i];
    check(fits, "concat: shapes ", tensors[0].shape(), " and ", t.shape(), " differ outside dimension ", dim);
    sizes.push_back(t.size(d));
    total += t.size(d);
  }
  shape.set(d, total);
  const Tensor y = ops::empty(shape, tensors[0]);
  const int64_t outer = shape.numel(0, d), step = shape.numel(d + 1, shape.ndim()) * size_of(y.dtype());
  int64_t offset = 0;
  for (const Tensor& t : tensors) {
    const int64_t width = t.size(d) * step;
    copy_rows(y.device(), static_cast<const char*>(t.raw()), width, static_cast<char*>(y.raw()) + offset,
              total * step, width, outer);
    offset += width;
  }
  record("concat", tensors, {y},
         [=](BackwardContext& c) {
           int64_t begin = 0;
           for (size_t i = 0; i < sizes.size(); begin += sizes[i++])
             if (c.needs(int(i))) c.set(int(i), narrow(c.grad_output(), d, begin, sizes[i]));
         },
         {.detail = Tape::current() ? weft::concat("dim ", d) : "",
          .double_backward = true,
          .looks_back = false,
          .told = Trace::note(TracedConcat{d})});
  return y;
}

}  // namespace weft
