#include "weft/engine/ops/batch_norm_pair.h"

#include "weft/engine/ops/batch_norm_helpers.h"
#include "weft/engine/ops/elementwise.h"

namespace weft {
namespace {

struct Side {
  Tensor x, weight, bias, mean, invstd;
};

template <class T>
kernels::BatchNormArgs<T> arguments(const Side& s, Activation activation, double param) {
  return ops::norm_arguments<T>(s.x, s.weight, s.bias, s.mean, s.invstd, activation, param);
}

bool has_kernel(const Tensor& x) {
  return dispatch("batch_norm_pair", x, [](const auto& k) { return k.batch_norm_pair_forward != nullptr; });
}

}  // namespace

Tensor batch_norm_pair(const BatchNormInput& main, const BatchNormInput& side, const BatchNormOptions& o,
                       const BatchNormOptions& side_options) {
  check(side_options.activation == Activation::identity, "batch_norm_pair: the side has the activation ",
        activation_name(side_options.activation), "; only their sum may have one");
  if (!has_kernel(main.x) || !is_fixed(o.activation)) {
    const Tensor residual = batch_norm(side.x, side.weight, side.bias, side.running_mean, side.running_var,
                                       true, side_options, {}, side.stats);
    return batch_norm(main.x, main.weight, main.bias, main.running_mean, main.running_var, true, o, residual,
                      main.stats);
  }
  check(main.x.shape() == side.x.shape(), "batch_norm_pair: ", main.x.shape(), " and ", side.x.shape(),
        " are to be added; their shapes must be equal");
  ops::check_same_dtype("batch_norm_pair", main.x, side.x);
  const auto prepare = [](const BatchNormInput& in, const BatchNormOptions& options) {
    const auto [mean, invstd] = ops::training_stats("batch_norm_pair", in, options);
    return Side{in.x, in.weight, in.bias, mean, invstd};
  };
  const Side b = prepare(side, side_options), a = prepare(main, o);
  const double param = o.activation_param.value_or(activation_default_param(o.activation));
  Tensor y = ops::empty_like(a.x);
  dispatch("batch_norm_pair", a.x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.batch_norm_pair_forward(arguments<T>(a, o.activation, param), arguments<T>(b, Activation::identity, 0),
                              y.data<T>());
  });
  record("batch_norm_pair", {a.x, a.weight, a.bias, b.x, b.weight, b.bias}, {y},
         [=](BackwardContext& c) {
           const Tensor& dy = c.grad_output();
           if (c.create_graph()) {
             const DType wide = a.weight.dtype();
             const ops::Normalized na = ops::normalized(a.x, wide, o.eps),
                                   nb = ops::normalized(b.x, wide, side_options.eps);
             Tensor g = cast(dy, wide);
             if (o.activation != Activation::identity)
               g = ops::activation_backward(o.activation, param,
                                            na.xhat * a.weight + a.bias + (nb.xhat * b.weight + b.bias), g);
             ops::set_norm_gradients(c, 0, na, a.weight, g, true, a.x.dtype());
             ops::set_norm_gradients(c, 3, nb, b.weight, g, true, b.x.dtype());
             return;
           }
           Tensor dxa = dy.unique() ? dy : ops::empty_like(a.x), dxb = ops::empty_like(b.x);
           Tensor dwa = ops::empty_like(a.weight), dba = ops::empty_like(a.bias),
                  dwb = ops::empty_like(b.weight), dbb = ops::empty_like(b.bias);
           dispatch("batch_norm_pair", a.x, [&](const auto& k) {
             using T = kernel_type<decltype(k)>;
             using W = wide_type<decltype(k)>;
             k.batch_norm_pair_backward(
                 arguments<T>(a, o.activation, param), arguments<T>(b, Activation::identity, 0), dy.data<T>(),
                 kernels::BatchNormGradients<T>{dxa.data<T>(), dwa.data<W>(), dba.data<W>()},
                 kernels::BatchNormGradients<T>{dxb.data<T>(), dwb.data<W>(), dbb.data<W>()});
           });
           int i = 0;
           for (Tensor* gradient : {&dxa, &dwa, &dba, &dxb, &dwb, &dbb}) c.set(i++, std::move(*gradient));
         },
         {.detail = o.activation == Activation::identity ? "train"
                                                         : concat("train + ", activation_name(o.activation)),
          .double_backward = true});
  return y;
}

}  // namespace weft
