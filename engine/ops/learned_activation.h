// Activations with learned parameters, as ops. The functions themselves are in kernels/activations/learned/.
#pragma once

#include <vector>

#include "weft/engine/tensor.h"
#include "weft/kernels/activation.h"

namespace weft {

/// y = f(x; parameters) of the learned activation `act`: prelu, srelu, swish_beta. x [..., C]; each
/// parameter, in the order of activation_parameters(act), holds one value for each channel, [C], or one for
/// all, [1]. Beside activations in 16 bits parameters are f32.
Tensor learned_activation(const Tensor& x, Activation act, const std::vector<Tensor>& parameters);

/// x above 0, else weight * x; weight [C] or [1], as torch.nn.functional.prelu, but channels are last.
Tensor prelu(const Tensor& x, const Tensor& weight);
/// x sigmoid(beta x); beta [C] or [1].
Tensor swish_beta(const Tensor& x, const Tensor& beta);
/// t_r + a_r (x - t_r) from t_r on, t_l + a_l (x - t_l) up to t_l, x between; each [C] or [1].
Tensor srelu(const Tensor& x, const Tensor& t_r, const Tensor& a_r, const Tensor& t_l, const Tensor& a_l);

}  // namespace weft
