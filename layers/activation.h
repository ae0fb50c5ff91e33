#pragma once

#include <vector>

#include "weft/engine/module.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/rrelu.h"

namespace weft {

/// Any activation as a layer; x and result have the same shape.
///   fixed    `param` is its slope or alpha.
///   learned  owns the parameters, named as activation_parameters() names them, of shape [channels]; with one
///            channel they are for all of x, else x is [..., channels]. `param` is where the parameter of
///            prelu or swish_beta starts. Optimizers should not decay them (split_decay() sees to that).
///   random   draws from `generator` in training, which must outlive the layer.
class ActivationLayer : public Module {
 public:
  ActivationLayer(Module& parent, std::string_view name, Activation act, std::optional<double> param = {},
                  int64_t channels = 1, Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override;
  /// The learned parameters, in the order of activation_parameters().
  const std::vector<Tensor>& learned() const { return learned_; }

 private:
  Activation act_;
  std::optional<double> param_;
  std::vector<Tensor> learned_;
  Generator& generator_;
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

/// A layer that is always the same learned activation, with parameters for that many channels, or (1) for all
/// together: emplace<PReLU>("act", 64).
template <Activation act>
class LearnedActivationOf : public ActivationLayer {
 public:
  LearnedActivationOf(Module& parent, std::string_view name, int64_t channels = 1,
                      std::optional<double> start = {})
      : ActivationLayer(parent, name, act, start, channels) {}
};

/// Parameter weight, starts at 0.25.
using PReLU = LearnedActivationOf<Activation::prelu>;
/// Parameters t_r (1), a_r (1), t_l (0), a_l (0.2).
using SReLU = LearnedActivationOf<Activation::srelu>;
/// Parameter beta, starts at 1.
using SwishBeta = LearnedActivationOf<Activation::swish_beta>;

/// Randomised leaky ReLU, see rrelu(). The generator must outlive the layer.
class RReLU : public Module {
 public:
  RReLU(Module& parent, std::string_view name, double lower = kernels::activations::rrelu::lower,
        double upper = kernels::activations::rrelu::upper, Generator& generator = default_generator())
      : Module(parent, name), lower_(lower), upper_(upper), generator_(generator) {}
  Tensor forward(const Tensor& x) override { return rrelu(x, lower_, upper_, training(), generator_); }
  std::string description() const override { return concat("rrelu(", lower_, ", ", upper_, ")"); }

 private:
  double lower_, upper_;
  Generator& generator_;
};

}  // namespace weft
