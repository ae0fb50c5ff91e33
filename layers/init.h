// Initialisers, named as in torch.nn.init: each overwrites a tensor's values and hands the tensor back.
#pragma once

#include <optional>

#include "weft/engine/module.h"
#include "weft/engine/tensor.h"
#include "weft/kernels/activation.h"

namespace weft::init {

Tensor constant_(Tensor t, double value);
Tensor zeros_(Tensor t);
Tensor ones_(Tensor t);
/// Uniform in [low, high).
Tensor uniform_(Tensor t, double low = 0, double high = 1, Generator& generator = default_generator());
Tensor normal_(Tensor t, double mean = 0, double std = 1, Generator& generator = default_generator());

/// Inputs that feed one output of a weight, and outputs that one input feeds.
struct Fans {
  int64_t in = 0, out = 0;
};
/// Of a matrix [out, in] or a convolution's weight [out, KH, KW, in / groups]: there
/// in = KH KW in / groups, out = KH KW out. Throws for fewer than two dimensions.
Fans fans(const Tensor& weight);

/// Which fan sets the scale: fan_in keeps the variance of the signal forward, fan_out that of the gradient.
enum class FanMode : uint8_t { fan_in, fan_out };

struct KaimingOptions {
  double a = 0;  ///< negative slope of the leaky ReLU that follows
  FanMode mode = FanMode::fan_in;
  std::optional<double> gain = {};  ///< instead of sqrt(2 / (1 + a^2))
};
/// Normal with std gain / sqrt(fan); the gain of a ReLU by default (He et al., 2015, arXiv 1502.01852).
Tensor kaiming_normal_(Tensor weight, const KaimingOptions& options = {},
                       Generator& generator = default_generator());
/// Uniform with the same standard deviation: bound gain sqrt(3 / fan).
Tensor kaiming_uniform_(Tensor weight, const KaimingOptions& options = {},
                        Generator& generator = default_generator());

/// kaiming_normal_ on the weights of all convolutions, transposed ones too, and linear layers in `root`,
/// their biases 0.
void kaiming_normal_all_(Module& root, Generator& generator = default_generator());

/// Normal with std gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio, 2010).
Tensor xavier_normal_(Tensor weight, double gain = 1, Generator& generator = default_generator());
/// Uniform with the same standard deviation: bound gain sqrt(6 / (fan_in + fan_out)).
Tensor xavier_uniform_(Tensor weight, double gain = 1, Generator& generator = default_generator());

/// gain times a random matrix with orthonormal rows (or columns, where there are fewer of them), the weight
/// taken as the matrix [size(0), all else] (Saxe et al., 2013, arXiv 1312.6120): the Q of a normal matrix,
/// its signs made unique.
Tensor orthogonal_(Tensor weight, double gain = 1, Generator& generator = default_generator());

/// The gain that torch.nn.init.calculate_gain gives: identity and sigmoid 1, tanh 5/3, ReLU sqrt(2), leaky
/// ReLU sqrt(2 / (1 + slope^2)). Throws for the others, for which it has none: pass a gain of your own.
double calculate_gain(Activation activation, std::optional<double> param = {});

}  // namespace weft::init
