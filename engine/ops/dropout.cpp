#include "weft/engine/ops/dropout.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/random_key.h"

namespace weft {
namespace {

// y = x m / (1 - p): dx = dy m / (1 - p) with the same mask m, drawn again from its key.
Tensor masked(const Tensor& x, double p, const Tensor& key) {
  Tensor y = ops::empty_like(x);
  dispatch("dropout", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.dropout(x.numel(), p, ops::key_data(key), x.data<T>(), y.data<T>());
  });
  record("dropout", {x}, {y}, [p, key](BackwardContext& c) { c.set(0, masked(c.grad_output(), p, key)); },
         {.detail = Tape::current() ? concat("p ", p) : "", .double_backward = true, .looks_back = false});
  return y;
}

}  // namespace

Tensor dropout(const Tensor& x, double p, bool training, Generator& generator) {
  check(p >= 0 && p <= 1, "dropout: p is ", p, "; it must lie in [0, 1]");
  if (!training || p == 0) return x;
  if (p == 1) return x * 0.0;  // nothing is left to be scaled by 1 / 0
  return masked(x, p, ops::random_key(generator, x.device()));
}

}  // namespace weft
