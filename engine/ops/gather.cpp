#include "weft/engine/ops/gather.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/gather_helpers.h"
#include "weft/engine/ops/helpers.h"
#include "weft/kernels/parallel.h"

namespace weft {
namespace {

using ops::Places;

kernels::GatherArgs args_of(const Places& p) {
  const int64_t outer = p.shape.numel(0, p.dim), inner = p.shape.numel(p.dim + 1, p.shape.ndim());
  const int64_t columns = p.for_each ? outer * inner : 1;
  return {.outer = outer,
          .size = p.shape[p.dim],
          .count = p.index.numel() / std::max<int64_t>(1, columns),
          .inner = inner,
          .index = p.index.data<int64_t>(),
          .for_each = columns > 1,
          .skipped = p.skipped};
}

/// The same with an index of its own, for a backward function: the caller's may change before it runs.
Places kept(Places places) {
  places.index = places.index.detach().clone();
  return places;
}

/// An index that names an element for each of its own has the shape of x but for the size of `dim`.
Places places_for_each(const char* op, const Tensor& x, int dim, const Tensor& index) {
  const int d = x.shape().index(dim, op);
  bool fits = index.ndim() == x.ndim();
  for (int i = 0; fits && i < x.ndim(); ++i) fits = i == d || index.size(i) == x.size(i);
  check(fits, op, ": an index ", index.shape(), " for ", x.shape(), "; outside of dimension ", dim,
        " the sizes must be equal");
  return ops::checked_places(op, x, d, index, true);
}

/// `rows` with 0 where the skipped index has named them. (Slices: no op skips elements.)
Tensor without_skipped(const Places& p, const Tensor& rows) {
  const Tensor kept = Tensor::ones({p.shape[p.dim], 1});
  kept.data<float>()[p.skipped] = 0;
  const kernels::GatherArgs a = args_of(p);
  const Tensor there = ops::gathered("gather", kept.to(rows.dtype()).to(rows.device()),
                                     {.shape = kept.shape(), .dim = 0, .index = p.index}, {a.count, 1});
  return ops::view_as(mul(ops::view_as(rows, {a.outer, a.count, a.inner}), there), rows.shape());
}

/// x, or zeros where that is undefined, with src added at its places. Its gradient with respect to src is
/// what gathered() takes from dy.
Tensor scattered(const char* name, const Tensor& x, const Tensor& src, const Places& places) {
  const Tensor y = x.defined() ? x.clone() : Tensor::zeros(places.shape, src.dtype(), src.device());
  if (src.numel() > 0)
    dispatch(name, src, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      k.scatter_add(args_of(places), src.data<T>(), y.data<T>());
    });
  BackwardFunction backward;
  if (recording({&x, &src}))
    backward = [places = kept(places), shape = src.shape()](BackwardContext& c) {
      if (c.needs(0)) c.set(0, c.grad_output());
      if (!c.needs(1)) return;
      const Tensor dy = ops::gathered("gather", c.grad_output(), places, shape);
      c.set(1, places.skipped < 0 ? dy : without_skipped(places, dy));
    };
  record(name, {x, src}, {y}, backward, {.double_backward = true, .looks_back = false});
  return y;
}

}  // namespace

Places ops::checked_places(const char* op, const Tensor& x, int dim, const Tensor& index, bool for_each) {
  check(index.dtype() == DType::i64, op, ": the index is ", index.dtype(), " ", index.shape(),
        "; it must be i64");
  check_same_device(op, x, index);
  const int64_t size = x.size(dim), count = index.device() == Device::cpu ? index.numel() : 0;
  const int64_t* const values = index.data<int64_t>();
  const auto outside = [=](int64_t i) { return uint64_t(i) >= uint64_t(size); };
  std::atomic<bool> any = false;
  kernels::parallel_ranges(count, 64 << 10, [&](int64_t begin, int64_t end) {
    bool one = false;
    for (int64_t i = begin; i < end; ++i) one |= outside(values[i]);
    if (one) any = true;
  });
  if (any) {
    const auto* const first = std::find_if(values, values + count, outside);
    fail(op, ": index ", *first, " at position ", first - values, " of ", index.shape(),
         " is not one of the ", size, " in dimension ", dim, " of ", x.shape());
  }
  return {.shape = x.shape(), .dim = dim, .index = index, .for_each = for_each};
}

Tensor ops::gathered(const char* name, const Tensor& x, const Places& places, const Shape& shape) {
  const Tensor y = ops::empty(shape, x);
  const auto write = [&]<class T>(T, auto kernel) { kernel(args_of(places), x.data<T>(), y.data<T>()); };
  if (y.numel() == 0)
    ;
  else if (x.device() == Device::cpu && x.dtype() == DType::i64)
    write(int64_t(), kernels::plain_gather<int64_t>);
  else if (x.device() == Device::cpu && x.dtype() == DType::u8)
    write(uint8_t(), kernels::plain_gather<uint8_t>);
  else
    dispatch(name, x, [&](const auto& k) { write(kernel_type<decltype(k)>(), k.gather); });
  BackwardFunction backward;
  if (recording({&x}))
    backward = [places = kept(places)](BackwardContext& c) {
      c.set(0, scattered("scatter_add", {}, c.grad_output(), places));
    };
  record(name, {x}, {y}, backward, {.double_backward = true, .looks_back = false});
  return y;
}

Tensor gather(const Tensor& x, int dim, const Tensor& index) {
  return ops::gathered("gather", x, places_for_each("gather", x, dim, index), index.shape());
}

Tensor index_select(const Tensor& x, int dim, const Tensor& index) {
  check(index.ndim() == 1, "index_select: the index is ", index.shape(), "; expected [k]");
  const int d = x.shape().index(dim, "index_select");
  Shape shape = x.shape();
  shape.set(d, index.numel());
  return ops::gathered("index_select", x, ops::checked_places("index_select", x, d, index), shape);
}

Tensor scatter_add(const Tensor& x, int dim, const Tensor& index, const Tensor& src) {
  ops::check_same_dtype("scatter_add", x, src);
  check(index.shape() == src.shape(), "scatter_add: an index ", index.shape(), " for a source ", src.shape(),
        "; both must have one shape");
  return scattered("scatter_add", x, src, places_for_each("scatter_add", x, dim, index));
}

}  // namespace weft
