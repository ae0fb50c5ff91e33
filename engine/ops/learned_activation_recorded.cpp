#include <optional>

#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/learned_activation_helpers.h"
#include "weft/engine/ops/select.h"

namespace weft::ops {
namespace {

/// df/dx, not recorded, with parameter k replaced by a number where `values` has one.
Tensor constant_slope(Activation act, const Tensor& x, const std::vector<Tensor>& parameters,
                      const std::vector<std::optional<double>>& values) {
  const NoGrad constant;
  std::vector<Tensor> p;
  for (size_t k = 0; k < parameters.size(); ++k)
    p.push_back(values[k] ? Tensor::full(parameters[k].shape(), *values[k], x.dtype(), x.device())
                          : parameters[k].detach());
  Tape tape;
  const Tensor in = tape.input(x.detach());
  return tape.grad(learned_activation(in, act, p), {in},
                   {.grad_outputs = {Tensor::ones(x.shape(), x.dtype(), x.device())}})[0];
}

// m is 1 above 0: f = x (m + (1 - m) w).
LearnedSlopes slopes_of_prelu(const Tensor& x, const std::vector<Tensor>& p) {
  const Tensor above = constant_slope(Activation::prelu, x, p, {0.0});
  return {above + (1 - above) * p[0], {where(gt(x, 0.0), 0.0, x)}};
}

LearnedSlopes slopes_of_srelu(const Tensor& x, const std::vector<Tensor>& p) {
  const auto slope = [&](double right, double left) {
    return constant_slope(Activation::srelu, x, p, {{}, right, {}, left});
  };
  const Tensor middle = slope(0, 0), right = slope(1, 0) - middle, left = slope(0, 1) - middle;
  // x - p may be infinite where it does not count.
  const auto beyond = [&](const Tensor& side, const Tensor& p) { return where(ne(side, 0.0), x - p, 0.0); };
  return {middle + right * p[1] + left * p[3],
          {right * (1 - p[1]), beyond(right, p[0]), left * (1 - p[3]), beyond(left, p[2])}};
}

LearnedSlopes slopes_of_swish_beta(const Tensor& x, const std::vector<Tensor>& p) {
  const Tensor z = p[0] * x, gate = sigmoid(z), gate_slope = gate * (1 - gate);
  return {gate + z * gate_slope, {x * x * gate_slope}};
}

}  // namespace

LearnedSlopes learned_slopes(Activation act, const Tensor& x, const std::vector<Tensor>& p) {
  switch (act) {
    case Activation::prelu:
      return slopes_of_prelu(x, p);
    case Activation::srelu:
      return slopes_of_srelu(x, p);
    case Activation::swish_beta:
      return slopes_of_swish_beta(x, p);
    default:
      fail(activation_name(act), ": its backward can't be recorded (create_graph)");
  }
}

}  // namespace weft::ops
