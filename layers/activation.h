#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/activation.h"

namespace weft {

/// Any activation as a layer; x and result have the same shape. `param` is its slope or alpha.
class ActivationLayer : public Module {
 public:
  ActivationLayer(Module& parent, std::string_view name, Activation act, std::optional<double> param = {})
      : Module(parent, name), act_(act), param_(param) {}
  Tensor forward(const Tensor& x) override { return activation(x, act_, param_); }
  std::string description() const override {
    return param_ ? concat(activation_name(act_), "(", *param_, ")") : std::string(activation_name(act_));
  }

 private:
  Activation act_;
  std::optional<double> param_;
};

/// A layer that is always the same activation: emplace<Mish>("act").
template <Activation act>
class ActivationOf : public ActivationLayer {
 public:
  ActivationOf(Module& parent, std::string_view name, std::optional<double> param = {})
      : ActivationLayer(parent, name, act, param) {}
};

using Identity = ActivationOf<Activation::identity>;
using ReLU = ActivationOf<Activation::relu>;
using Mish = ActivationOf<Activation::mish>;
using SiLU = ActivationOf<Activation::silu>;
using Sigmoid = ActivationOf<Activation::sigmoid>;
using Tanh = ActivationOf<Activation::tanh>;
using Softplus = ActivationOf<Activation::softplus>;
using LeakyReLU = ActivationOf<Activation::leaky_relu>;
using ELU = ActivationOf<Activation::elu>;
using GELU = ActivationOf<Activation::gelu>;

}  // namespace weft
