#include "weft/engine/ops/rrelu.h"

#include <cmath>

#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/random_key.h"

namespace weft {

namespace {

// out = s in with s = 1 where x is above 0 and else drawn; y is that of in = x. On the way back dy takes the
// place of in, with the same s, drawn again from its key.
Tensor scaled(const Tensor& x, const Tensor& in, double lower, double upper, const Tensor& key) {
  Tensor out = ops::empty_like(in);
  dispatch("rrelu", in, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.rrelu(in.numel(), lower, upper, ops::key_data(key), x.data<T>(), in.data<T>(), out.data<T>());
  });
  record("rrelu", {in}, {out},
         [=](BackwardContext& c) { c.set(0, scaled(x, c.grad_output(), lower, upper, key)); },
         {.double_backward = true});
  return out;
}

}  // namespace

Tensor rrelu(const Tensor& x, double lower, double upper, bool training, Generator& generator) {
  check(std::isfinite(lower) && std::isfinite(upper) && lower <= upper,
        "rrelu: the slopes are to lie between ", lower, " and ", upper,
        "; the lower bound must not be above the upper one");
  if (!training) return leaky_relu(x, (lower + upper) / 2);
  return scaled(x.detach(), x, lower, upper, ops::random_key(generator, x.device()));
}

}  // namespace weft
