#include "weft/layers/activation.h"

#include "weft/engine/ops/learned_activation.h"

namespace weft {

ActivationLayer::ActivationLayer(Module& parent, std::string_view name, Activation act,
                                 std::optional<double> param, int64_t channels, Generator& generator)
    : Module(parent, name), act_(act), param_(param), generator_(generator) {
  check(channels > 0, "ActivationLayer ", name, ": ", channels, " channels; there must be at least one");
  const auto parameters = activation_parameters(act);
  check(is_fixed(act) || !param || parameters.size() == 1, "ActivationLayer ", name, ": ",
        activation_name(act), " has no single parameter that could be ", param.value_or(0), "; leave it out");
  for (const LearnedParameter& p : parameters)
    learned_.push_back(register_parameter(p.name, Tensor::full({channels}, param.value_or(p.start))));
}

Tensor ActivationLayer::forward(const Tensor& x) {
  if (is_learned(act_)) return learned_activation(x, act_, learned_);
  if (!is_random(act_)) return activation(x, act_, param_);
  using Slopes = kernels::activations::rrelu;
  return rrelu(x, Slopes::lower, Slopes::upper, training(), generator_);
}

std::string ActivationLayer::description() const {
  std::string s(activation_name(act_));
  if (is_learned(act_)) return concat(s, "(", learned_[0].size(0), ")");
  return param_ ? concat(s, "(", *param_, ")") : s;
}

}  // namespace weft
