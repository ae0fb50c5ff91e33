#include "weft/engine/ops/add_activation_pool.h"

#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/pool_helpers.h"

namespace weft {

std::pair<Tensor, Tensor> add_activation_pool(const Tensor& a, const Tensor& b, Activation act,
                                              std::optional<double> param) {
  const bool has_kernel =
      dispatch("add_activation_pool", a, [](const auto& k) { return k.add_activation_pool != nullptr; });
  if (!has_kernel || a.shape() != b.shape() || !is_fixed(act)) {
    const Tensor y = add_activation(a, b, act, param);
    return {y, avg_pool2d(y, kHalves)};
  }
  ops::check_same_dtype("add_activation_pool", a, b);
  const kernels::Pool2dParams p = ops::pool_geometry("add_activation_pool", a, kHalves);
  const double at = param.value_or(activation_default_param(act));
  Tensor y = ops::empty_like(a), pooled = ops::empty({p.batch, p.out_h, p.out_w, p.channels}, a);
  dispatch("add_activation_pool", a, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.add_activation_pool(act, wide_type<decltype(k)>(at), p, a.data<T>(), b.data<T>(), y.data<T>(),
                          pooled.data<T>());
  });
  record("add_activation_pool", {a, b}, {y, pooled},
         [=](BackwardContext& c) {
           Tensor g;
           if (c.create_graph()) {
             const Tensor dy = c.grad_output(0) + ops::avg_pool2d_backward(p, c.grad_output(1));
             g = act == Activation::identity ? dy : ops::activation_backward(act, at, a + b, dy);
           } else {
             const Tensor dy = c.take_grad_output(0), dpooled = c.take_grad_output(1);
             g = dy.unique() ? dy : ops::empty_like(a);
             dispatch("add_activation_pool", a, [&](const auto& k) {
               using T = kernel_type<decltype(k)>;
               k.add_activation_pool_backward(act, wide_type<decltype(k)>(at), p, a.data<T>(), b.data<T>(),
                                              dy.data<T>(), dpooled.data<T>(), g.data<T>());
             });
           }
           c.set(0, g);
           c.set(1, g);
         },
         {.detail = Tape::current() ? std::string(activation_name(act)) : "", .double_backward = true});
  return {y, pooled};
}

}  // namespace weft
