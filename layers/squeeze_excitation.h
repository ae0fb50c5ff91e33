#pragma once

#include "weft/layers/activation.h"
#include "weft/layers/linear.h"

namespace weft {

struct SqueezeExcitationOptions {
  Activation activation = Activation::relu;           ///< between the two linear maps
  Activation scale_activation = Activation::sigmoid;  ///< makes the factors
  std::optional<double> activation_param = {};
};

/// Scales each channel by a factor computed from the means of all channels (Hu et al., 2017, "Squeeze-and-
/// excitation networks", arXiv 1709.01507):
///   y = x * scale_activation(fc2(activation(fc1(mean of x over the image))))
/// x, y [N, H, W, C]. fc1 [hidden, C] and fc2 [C, hidden] have biases; they are torchvision's 1x1
/// convolutions, which see one pixel.
class SqueezeExcitation : public Module {
 public:
  SqueezeExcitation(Module& parent, std::string_view name, int64_t channels, int64_t hidden,
                    const SqueezeExcitationOptions& options = {}, Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Linear fc1;
  ActivationLayer activation;
  Linear fc2;
  ActivationLayer scale_activation;
};

}  // namespace weft
