#include "weft/layers/squeeze_excitation.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/pool.h"
#include "weft/engine/ops/shape.h"

namespace weft {

SqueezeExcitation::SqueezeExcitation(Module& parent, std::string_view name, int64_t channels, int64_t hidden,
                                     const SqueezeExcitationOptions& options, Generator& generator)
    : Module(parent, name),
      fc1(*this, "fc1", channels, hidden, {}, generator),
      activation(*this, "activation", options.activation, options.activation_param, hidden, generator),
      fc2(*this, "fc2", hidden, channels, {}, generator),
      scale_activation(*this, "scale_activation", options.scale_activation, std::nullopt, channels,
                       generator) {}

Tensor SqueezeExcitation::forward(const Tensor& x) {
  const int64_t channels = fc2.weight.size(0);
  check(x.ndim() == 4 && x.size(3) == channels, "SqueezeExcitation: x has shape ", x.shape(),
        " but [N, H, W, C] with C = ", channels, " is expected");
  const Tensor scale = scale_activation(fc2(activation(fc1(global_avg_pool(x)))));
  return x * reshape(scale, {x.size(0), 1, 1, channels});
}

std::string SqueezeExcitation::description() const {
  return concat("SqueezeExcitation(", fc2.weight.size(0), ", ", fc1.weight.size(0), ")");
}

}  // namespace weft
