#include "weft/layers/depth_net.h"

#include <algorithm>

#include "weft/layers/init.h"

namespace weft {
namespace {

constexpr int64_t kKernel = 5, kUnits = 500;
constexpr double kDropout = 0.25;

/// Height of the image behind the pool.
int64_t pooled(const DepthNetOptions& o) {
  check(o.image_size >= 2 * kKernel, "DepthNet: images of ", o.image_size,
        " pixels; they must have at least ", 2 * kKernel);
  return (o.image_size - 2 * (kKernel - 1)) / 2;
}

}  // namespace

DepthNet::DepthNet(Module* parent, std::string_view name, int64_t layers, const DepthNetOptions& o,
                   Generator& generator)
    : Module(parent, name),
      conv1(*this, "conv1", o.in_channels, 20, {.kernel = kKernel}, generator),
      activation1(*this, "activation1", o.activation, o.activation_param, 20, generator),
      conv2(*this, "conv2", 20, 50, {.kernel = kKernel}, generator),
      activation2(*this, "activation2", o.activation, o.activation_param, 50, generator),
      dropout(*this, "dropout", kDropout, generator),
      dense(*this, "dense", 50 * pooled(o) * pooled(o), o.classes,
            {.hidden = std::vector<int64_t>(size_t(std::max<int64_t>(0, layers)), kUnits),
             .activation = o.activation,
             .activation_param = o.activation_param,
             .norm = true,
             .norm_options = {.momentum = 0.01, .eps = 1e-3},
             .dropout = kDropout},
            generator) {
  visit([&](const std::string&, Module& module) {
    const auto start = [&](const Tensor& weight, const Tensor& bias) {
      init::xavier_uniform_(weight, 1, generator);
      init::zeros_(bias);
    };
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) start(conv->weight, conv->bias);
    if (auto* linear = dynamic_cast<Linear*>(&module)) start(linear->weight, linear->bias);
  });
}

Tensor DepthNet::forward(const Tensor& x) {
  const Tensor y = activation2(conv2(activation1(conv1(x))));
  return dense(dropout(pool(y)));
}

}  // namespace weft
