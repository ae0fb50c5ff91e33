#include "weft/optim/centralize.h"

#include "weft/engine/ops/helpers.h"

namespace weft::optim {

void centralize_gradients_(const std::vector<Parameter>& parameters, int above) {
  for (const Parameter& p : parameters) {
    check(p.tensor.defined(), "centralize_gradients_: parameter '", p.name, "' is undefined");
    const Tensor& g = p.tensor.grad();
    if (!g.defined() || g.ndim() <= above || g.numel() == 0) continue;
    check(g.dtype() == p.tensor.dtype(), "centralize_gradients_: the gradient of '", p.name, "' is ",
          g.dtype(), "; leave the parameter out of BackwardOptions::narrow");
    const int64_t rows = g.size(0), n = g.numel() / rows;
    const Tensor mean = Tensor::empty({rows}, g.dtype(), g.device());
    dispatch("centralize_gradients_", g, [&](const auto& k) {
      using T = kernel_type<decltype(k)>;
      using W = wide_type<decltype(k)>;
      k.reduce(kernels::Reduce::sum, rows, n, 1, g.data<T>(), mean.data<T>());
      k.affine(rows, W(1.0 / double(n)), W(0), mean.data<T>(), mean.data<T>());
      const kernels::Broadcast along_rows = ops::broadcast({rows, n}, {rows, n}, {rows, 1});
      k.binary(kernels::Binary::sub, along_rows, g.data<T>(), mean.data<T>(), g.data<T>());
    });
  }
}

}  // namespace weft::optim
