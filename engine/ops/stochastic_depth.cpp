#include "weft/engine/ops/stochastic_depth.h"

#include "weft/engine/ops/dropout.h"
#include "weft/engine/ops/elementwise.h"

namespace weft {

// y = x m with one factor m for each row, 0 or 1 / (1 - p): those that dropout makes of ones. It is the
// product that is recorded.
Tensor stochastic_depth(const Tensor& x, double p, StochasticDepthMode mode, bool training,
                        Generator& generator) {
  check(p >= 0 && p <= 1, "stochastic_depth: p is ", p, "; it must lie in [0, 1]");
  check(x.ndim() >= 1 && x.numel() > 0, "stochastic_depth: expected a non-empty input [N, ...], got ",
        x.shape());
  if (!training || p == 0) return x;
  Shape shape = x.shape();
  for (int i = mode == StochasticDepthMode::row ? 1 : 0; i < shape.ndim(); ++i) shape.set(i, 1);
  const Tensor ones = Tensor::ones(shape, x.dtype(), x.device());
  return x * (p == 1 ? ones * 0.0 : dropout(ones, p, true, generator));
}

}  // namespace weft
