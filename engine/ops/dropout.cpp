#include "weft/engine/ops/dropout.h"

#include "weft/engine/ops/helpers.h"

namespace weft {

// y = x m / (1 - p): dx = dy m / (1 - p) with the same mask m, drawn again from its key.
Tensor dropout(const Tensor& x, double p, bool training, Generator& generator) {
  check(p >= 0 && p < 1, "dropout: p is ", p, "; it must be at least 0 and below 1");
  if (!training || p == 0) return x;
  check(!kernels::cuda::capturing(),
        "dropout: a captured step would draw the same mask each time; run this model without capture");
  const uint64_t key = generator.next_key();
  const auto apply = [p, key](const Tensor& in) {
    Tensor out = ops::empty_like(in);
    dispatch("dropout", in, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      k.dropout(in.numel(), p, key, in.data<T>(), out.data<T>());
    });
    return out;
  };
  const Tensor y = apply(x);
  record("dropout", {x}, {y}, [apply](BackwardContext& c) { c.set(0, apply(c.grad_output())); },
         {.detail = Tape::current() ? concat("p ", p) : ""});
  return y;
}

}  // namespace weft
