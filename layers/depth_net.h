#pragma once

#include "weft/layers/activation.h"
#include "weft/layers/conv2d.h"
#include "weft/layers/dropout.h"
#include "weft/layers/mlp.h"
#include "weft/layers/pool.h"

namespace weft {

struct DepthNetOptions {
  Activation activation = Activation::mish;
  std::optional<double> activation_param = {};
  int64_t in_channels = 1, image_size = 28;
  int64_t classes = 10;
};

/// The network behind the depth figure of the Mish paper, as its notebook has it
/// (github.com/digantamisra98/Mish at 04f997a, Layers_Acc.ipynb, in Keras): 5x5 convolution to 20 channels,
/// 5x5 to 50, both without padding and with the activation, max pooling over 2x2, dropout .25, then `dense`
/// times Linear 500, batch norm (Keras's momentum .99 and eps 1e-3), activation, dropout .25, and Linear. The
/// figure counts dense + 3 layers, 15 to 25. Images [N, S, S, in_channels] -> logits [N, classes], S =
/// image_size. Weights start with Glorot's uniform initialiser, biases at 0, as in Keras.
class DepthNet : public Module {
 public:
  explicit DepthNet(int64_t dense_layers, const DepthNetOptions& options = {},
                    Generator& generator = default_generator())
      : DepthNet(nullptr, {}, dense_layers, options, generator) {}
  DepthNet(Module& parent, std::string_view name, int64_t dense_layers, const DepthNetOptions& options = {},
           Generator& generator = default_generator())
      : DepthNet(&parent, name, dense_layers, options, generator) {}
  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "DepthNet"; }

  Conv2d conv1;
  ActivationLayer activation1;
  Conv2d conv2;
  ActivationLayer activation2;
  MaxPool2d pool{*this, "pool"};
  Dropout dropout;
  MLP dense;

 private:
  DepthNet(Module* parent, std::string_view name, int64_t dense_layers, const DepthNetOptions& options,
           Generator& generator);
};

}  // namespace weft
