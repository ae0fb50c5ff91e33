#include "weft/engine/ops/batch_norm_avg_pool.h"

#include "weft/engine/ops/batch_norm_helpers.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/pool_helpers.h"

namespace weft {

// That of batch_norm(), where dy is the sum of y's gradient and of what the average's gives to its pixels.
std::pair<Tensor, Tensor> batch_norm_avg_pool(const BatchNormInput& in, const Tensor& residual,
                                              const BatchNormOptions& o) {
  const Tensor &x = in.x, &w = in.weight, &b = in.bias;
  const kernels::Pool2dParams p = ops::pool_geometry("batch_norm_avg_pool", x, kHalves);
  const bool has_kernel = dispatch("batch_norm_avg_pool", x, [&](const auto& k) {
    return k.has_batch_norm_avg_pool && k.has_batch_norm_avg_pool(p, o.activation);
  });
  if (!has_kernel) {
    const Tensor y = batch_norm(x, w, b, in.running_mean, in.running_var, true, o, residual, in.stats);
    return {y, avg_pool2d(y, kHalves)};
  }
  ops::check_norm_operands(x, residual, {});
  const auto [mean, invstd] = ops::training_stats("batch_norm_avg_pool", in, o);
  const double param = o.activation_param.value_or(activation_default_param(o.activation));
  const auto arguments = [=, mean = mean, invstd = invstd, x = x, w = w, b = b]<class T>(T) {
    auto a = ops::norm_arguments<T>(x, w, b, mean, invstd, o.activation, param);
    a.residual = residual.data<T>();
    return a;
  };
  Tensor y = ops::empty_like(x), pooled = ops::empty({p.batch, p.out_h, p.out_w, p.channels}, x);
  dispatch("batch_norm_avg_pool", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.batch_norm_avg_pool_forward(arguments(T()), p, y.data<T>(), pooled.data<T>());
  });
  record("batch_norm_avg_pool", {x, w, b, residual}, {y, pooled},
         [=, x = x, w = w, b = b](BackwardContext& c) {
           if (c.create_graph()) {
             const ops::Normalized n = ops::normalized(x, w.dtype(), o.eps);
             Tensor g = cast(c.grad_output(0) + ops::avg_pool2d_backward(p, c.grad_output(1)), w.dtype());
             if (o.activation != Activation::identity)
               g = ops::activation_backward(o.activation, param, n.xhat * w + b + cast(residual, w.dtype()),
                                            g);
             ops::set_norm_gradients(c, 0, n, w, g, true, x.dtype());
             return c.set(3, cast(g, x.dtype()));
           }
           const Tensor dy = c.take_grad_output(0), dpooled = c.take_grad_output(1);
           Tensor g = dy.unique() ? dy : ops::empty_like(x);
           Tensor dx = ops::empty_like(x), dw = ops::empty_like(w), db = ops::empty_like(b);
           dispatch("batch_norm_avg_pool", x, [&](const auto& k) {
             using T = kernel_type<decltype(k)>;
             using W = wide_type<decltype(k)>;
             auto a = arguments(T());
             k.batch_norm_avg_pool_backward_reduce(a, p, dy.data<T>(), dpooled.data<T>(), g.data<T>(),
                                                   dw.data<W>(), db.data<W>());
             a.activation = Activation::identity, a.residual = nullptr;
             k.batch_norm_backward_input(a, g.data<T>(), dw.data<W>(), db.data<W>(), true, dx.data<T>());
           });
           c.set(0, std::move(dx));
           c.set(1, std::move(dw));
           c.set(2, std::move(db));
           c.set(3, std::move(g));
         },
         {.detail = Tape::current() ? concat("train + residual + ", activation_name(o.activation), " + ",
                                             ops::describe_pool(p))
                                    : std::string(),
          .double_backward = true});
  return {y, pooled};
}

}  // namespace weft
