// Activations as ops. The functions themselves are in kernels/activations/.
#pragma once

#include <optional>
#include <string_view>

#include "weft/engine/tensor.h"
#include "weft/kernels/activation.h"

namespace weft {

/// Any fixed activation; `param` is its slope or alpha (default: that of its file).
Tensor activation(const Tensor& x, Activation act, std::optional<double> param = {});
/// activation(a + b, act, param). On a GPU one op, where both have one shape: forward and backward are a pass
/// each over the operands, and the sum is neither written nor, in 16 bits, rounded.
Tensor add_activation(const Tensor& a, const Tensor& b, Activation act, std::optional<double> param = {});
/// The activation of that name ("swish" and "silu" are the same); throws Error listing the names if there is
/// none.
Activation activation_by_name(std::string_view name);

Tensor relu(const Tensor& x);
Tensor mish(const Tensor& x);
Tensor silu(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor softplus(const Tensor& x);
Tensor leaky_relu(const Tensor& x, double negative_slope = 0.01);
Tensor elu(const Tensor& x, double alpha = 1);
/// Exact form, with the error function.
Tensor gelu(const Tensor& x);

}  // namespace weft
