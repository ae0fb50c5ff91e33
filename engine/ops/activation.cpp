#include "weft/engine/ops/activation.h"

#include "weft/engine/ops/helpers.h"

namespace weft {

// y = f(x): dx = dy f'(x).
Tensor activation(const Tensor& x, Activation act, std::optional<double> param) {
  if (act == Activation::identity) return x;
  const double p = param.value_or(activation_default_param(act));
  const char* name = activation_name(act).data();
  Tensor y = ops::empty_like(x);
  dispatch(name, x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.activation(act, wide_type<decltype(k)>(p), x.numel(), x.data<T>(), y.data<T>());
  });
  record(
      name, {x}, {y}, !recording({&x}) ? BackwardFunction() : [=, x = x.detach()](BackwardContext& c) {
        Tensor dx = ops::empty_like(x);
        dispatch(name, x, [&](const auto& k) {
          using T = kernel_type<decltype(k)>;
          k.activation_backward(act, wide_type<decltype(k)>(p), x.numel(), x.data<T>(),
                                c.grad_output().data<T>(), dx.data<T>());
        });
        c.set(0, dx);
      });
  return y;
}

Activation activation_by_name(std::string_view name) {
  if (const auto act = find_activation(name == "swish" ? "silu" : name)) return *act;
  std::string names;
  for (int i = 0; i < kActivationCount; ++i) names += concat(i ? ", " : "", activation_name(Activation(i)));
  fail("unknown activation \"", name, "\"; known: ", names, ", swish");
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
