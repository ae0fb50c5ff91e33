#include "weft/engine/ops/activation.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/trace.h"

namespace weft {

// y = f(x): dx = dy f'(x).
Tensor activation(const Tensor& x, Activation act, std::optional<double> param) {
  check(is_fixed(act), "activation: ", activation_name(act),
        is_learned(act) ? " has learned parameters; call learned_activation() with them, or use "
                        : " draws random numbers; call rrelu(), or use ",
        "ActivationLayer, which ", is_learned(act) ? "owns them" : "knows its generator");
  if (act == Activation::identity) return x;
  const double p = param.value_or(activation_default_param(act));
  const char* name = activation_name(act).data();
  Tensor y = ops::empty_like(x);
  dispatch(name, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.activation(act, wide_type<decltype(k)>(p), x.numel(), x.data<T>(), y.data<T>());
  });
  record(name, {x}, {y},
         [=](BackwardContext& c) { c.set(0, ops::activation_backward(act, p, x, c.grad_output())); },
         {.double_backward = true, .told = Trace::note(TracedActivation{act, p})});
  return y;
}

/// w f''(x). Its derivative would be the third of the activation, which nobody has written down.
static Tensor activation_curvature(Activation act, double param, const Tensor& x, const Tensor& w) {
  Tensor z = ops::empty_like(x);
  dispatch(activation_name(act).data(), x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.activation_curvature(act, wide_type<decltype(k)>(param), x.numel(), x.data<T>(), w.data<T>(),
                           z.data<T>());
  });
  record("activation_curvature", {x, w}, {z},
         [=](BackwardContext& c) {
           check(!c.needs(0), activation_name(act), ": has no third derivative, only a first and a second");
           c.set(1, activation_curvature(act, param, x, c.grad_output()));
         },
         {.detail = Tape::current() ? std::string(activation_name(act)) : "", .double_backward = true});
  return z;
}

// dx = dy f'(x): ddy = g f'(x), ddx = g dy f''(x), which is nothing for a polygon.
Tensor ops::activation_backward(Activation act, double param, const Tensor& x, const Tensor& dy) {
  Tensor dx = empty_like(x);
  dispatch(activation_name(act).data(), x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.activation_backward(act, wide_type<decltype(k)>(param), x.numel(), x.data<T>(), dy.data<T>(),
                          dx.data<T>());
  });
  record("activation_backward", {x, dy}, {dx},
         [=](BackwardContext& c) {
           if (c.needs(1)) c.set(1, activation_backward(act, param, x, c.grad_output()));
           const bool polygon = act == Activation::relu || act == Activation::leaky_relu;
           if (c.needs(0) && !polygon)
             c.set(0, activation_curvature(act, param, x, mul(c.grad_output(), dy)));
         },
         {.detail = Tape::current() ? std::string(activation_name(act)) : "", .double_backward = true});
  return dx;
}

// y = f(a + b): da = db = dy f'(a + b).
Tensor add_activation(const Tensor& a, const Tensor& b, Activation act, std::optional<double> param) {
  const bool has_kernel =
      dispatch("add_activation", a, [](const auto& k) { return k.add_activation != nullptr; });
  if (!has_kernel || a.shape() != b.shape() || !is_fixed(act) || act == Activation::identity)
    return activation(a + b, act, param);
  ops::check_same_dtype("add_activation", a, b);
  const double p = param.value_or(activation_default_param(act));
  Tensor y = ops::empty_like(a);
  dispatch("add_activation", a, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.add_activation(act, wide_type<decltype(k)>(p), a.numel(), a.data<T>(), b.data<T>(), y.data<T>());
  });
  record("add_activation", {a, b}, {y},
         [=](BackwardContext& c) {
           Tensor g;
           if (c.create_graph()) {
             g = ops::activation_backward(act, p, a + b, c.grad_output());
           } else {
             const Tensor dy = c.take_grad_output();
             g = dy.unique() ? dy : ops::empty_like(a);
             dispatch("add_activation", a, [&](const auto& k) {
               using T = kernel_type<decltype(k)>;
               k.add_activation_backward(act, wide_type<decltype(k)>(p), a.numel(), a.data<T>(), b.data<T>(),
                                         dy.data<T>(), g.data<T>());
             });
           }
           c.set(0, g);
           c.set(1, g);
         },
         {.detail = Tape::current() ? std::string(activation_name(act)) : "",
          .double_backward = true,
          .told = Trace::note(TracedActivation{act, p})});
  return y;
}

Activation activation_by_name(std::string_view name) {
  if (const auto act = find_activation(name == "swish" ? "silu" : name)) return *act;
  std::vector<std::string_view> names;
  for (int i = 0; i < kAllActivationCount; ++i) names.push_back(activation_name(Activation(i)));
  fail("unknown activation \"", name, "\"; known: ", joined(names), ", swish");
}

Tensor relu(const Tensor& x) { return activation(x, Activation::relu); }
Tensor mish(const Tensor& x) { return activation(x, Activation::mish); }
Tensor silu(const Tensor& x) { return activation(x, Activation::silu); }
Tensor sigmoid(const Tensor& x) { return activation(x, Activation::sigmoid); }
Tensor tanh(const Tensor& x) { return activation(x, Activation::tanh); }
Tensor softplus(const Tensor& x) { return activation(x, Activation::softplus); }
Tensor leaky_relu(const Tensor& x, double negative_slope) {
  return activation(x, Activation::leaky_relu, negative_slope);
}
Tensor elu(const Tensor& x, double alpha) { return activation(x, Activation::elu, alpha); }
Tensor gelu(const Tensor& x) { return activation(x, Activation::gelu); }

}  // namespace weft
