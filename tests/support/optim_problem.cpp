#include "support/optim_problem.h"

#include <cmath>

namespace weft::testing {
namespace {

const Shape kShapes[] = {{5}, {4, 3}, {3, 2, 2, 2}};
const double kScales[] = {1, 1, 5};

using Parameters = std::vector<Parameter>;
using Make = std::function<std::unique_ptr<optim::Optimizer>(const Parameters&, const Parameters&)>;

/// The group that `second` became has 0.3 times the rate and no decay.
std::unique_ptr<optim::Optimizer> slow_second(std::unique_ptr<optim::Optimizer> optimizer,
                                              const Parameters& second) {
  if (second.empty()) return optimizer;
  const size_t group = optimizer->num_groups() - 1;
  optimizer->set_lr(group, 0.3 * optimizer->lr(group));
  return optimizer;
}

/// Options that a name of the registry does not reach.
template <class Opt, class Options>
Make of(const Options& options) {
  return [options](const Parameters& first, const Parameters& second) {
    auto optimizer = std::make_unique<Opt>(first, options);
    Options other = options;
    other.lr *= 0.3;
    other.weight_decay = 0;
    optimizer->add_group(second, other);
    return optimizer;
  };
}

Make in_lookahead(const Make& inner, const optim::LookaheadOptions& options) {
  return [inner, options](const Parameters& first, const Parameters& second) {
    return std::make_unique<optim::Lookahead>(inner(first, second), options);
  };
}

/// What can be asked of an optimizer itself.
NamedOptimizer named(const std::string& name, const Make& make) {
  const Tensor p = Tensor::zeros({1}).set_requires_grad();
  const auto optimizer = make({{"p", p}}, {});
  return {name, make, optimizer->by_element(), dynamic_cast<optim::Lookahead*>(optimizer.get()) != nullptr};
}

}  // namespace

Problem::Problem(DType dtype) {
  for (int j = 0; j < 3; ++j) {
    const Tensor p = Tensor::empty(kShapes[j], DType::f64);
    for (int64_t i = 0; i < p.numel(); ++i)
      p.data<double>()[i] = kScales[j] * std::cos(0.5 + 1.3 * double(i) + j);
    parameters.push_back({concat("layer", j, ".weight"), p.to(dtype).set_requires_grad()});
  }
}

void Problem::set_gradients(int64_t t) const {
  double sum = 0;
  const Tensor all = flat();
  for (int64_t i = 0; i < all.numel(); ++i) sum += all.at(i);
  const double coupling = std::tanh(0.1 * sum);
  for (int j = 0; j < 3; ++j) {
    const Tensor& p = parameters[size_t(j)].tensor;
    if (missing && ((j == 1 && t < 4) || (j == 2 && t % 3 == 0))) {
      p.zero_grad();
      continue;
    }
    const Tensor g = Tensor::zeros(p.shape(), DType::f64);
    for (int64_t i = 0; i < p.numel() && !(zero_first && j == 0 && t <= 2); ++i) {
      const double x = p.at(i), curvature = 0.5 + double((7 * i + 3 * j) % 11) / 11.0;
      g.data<double>()[i] = curvature * (x - std::sin(1.0 + double(i) + 2.0 * j)) + 0.3 * std::sin(3 * x) +
                            0.2 * coupling + 0.4 * std::cos(0.37 * double(t) + 0.9 * double(i) + j);
    }
    p.set_grad(g.to(p.dtype()));
  }
}

Tensor Problem::flat() const {
  std::vector<double> values;
  for (const Parameter& p : parameters)
    for (int64_t i = 0; i < p.tensor.numel(); ++i) values.push_back(p.tensor.at(i));
  return Tensor::from(values, {int64_t(values.size())});
}

std::string trajectory_difference(const Problem& problem, optim::Optimizer& optimizer, const Tensor& stored,
                                  const golden::Tolerance& tolerance, const optim::Schedule* schedule) {
  const int64_t steps[] = {0, 1, 2, 5, 6, 7, 10, 50, 100}, n = stored.size(1);
  check(stored.size(0) == int64_t(std::size(steps)), "a stored trajectory has ", stored.size(0), " rows");
  int64_t row = 0;
  for (int64_t t = 0; t <= 100; ++t) {
    if (t > 0) {
      if (schedule) schedule->apply(optimizer, t - 1, 100);
      problem.set_gradients(t);
      optimizer.step();
    }
    if (t != steps[row]) continue;
    const double* data = stored.data<double>() + row++ * n;
    const std::string difference =
        golden::difference(problem.flat(), Tensor::from(std::vector<double>(data, data + n), {n}), tolerance);
    if (!difference.empty()) return concat("after step ", t, ": ", difference);
  }
  return "";
}

NamedOptimizer registered(const std::string& name, const optim::Hyper& hyper) {
  return named(name, [name, hyper](const Parameters& first, const Parameters& second) {
    return slow_second(optim::make_optimizer(name, {first, second}, hyper), second);
  });
}

const std::vector<NamedOptimizer>& all_optimizers() {
  using namespace optim;
  static const std::vector<NamedOptimizer> all = [] {
    std::vector<NamedOptimizer> optimizers;
    for (const std::string& name : optimizer_names())
      optimizers.push_back(registered(name, {.lr = 0.02, .mom = 0.9, .sqrmom = 0.99, .wd = 0.05}));
    const Make sgdw = of<SGD>(
        SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.05, .decoupled_weight_decay = true});
    const std::pair<const char*, Make> forms[] = {
        {"sgd plain", of<SGD>(SGDOptions{.lr = 0.05, .weight_decay = 0.01})},
        {"sgd dampened",
         of<SGD>(SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01})},
        {"sgd decoupled", sgdw},
        {"radam L2", of<RAdam>(RAdamOptions{.lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.01})},
        {"lookahead adam lazy",
         in_lookahead(of<Adam>(AdamOptions{.lr = 0.02, .betas = {0.9, 0.99}}), {.k = 6, .lazy = true})},
        {"lookahead sgd", in_lookahead(sgdw, {.k = 5, .alpha = 0.8})},
        {"novograd averaging",
         of<NovoGrad>(NovoGradOptions{
             .lr = 0.02, .weight_decay = 0.01, .grad_averaging = true, .restart_at_zero = true})},
        {"rmsprop plain", of<RMSprop>(RMSpropOptions{.lr = 0.02, .weight_decay = 0.01})},
        {"adagrad decaying",
         of<Adagrad>(AdagradOptions{
             .lr = 0.2, .lr_decay = 0.1, .weight_decay = 0.01, .initial_accumulator_value = 0.5})},
        {"muon original",
         of<Muon>(MuonOptions{
             .lr = 0.05, .momentum = 0.8, .nesterov = false, .ns_steps = 3, .adamw_lr_factor = 0.1})},
        {"lars everywhere",
         of<LARS>(LARSOptions{.lr = 0.5, .weight_decay = 0.01, .trust_coefficient = 0.02})},
        {"lars clip",
         of<LARS>(LARSOptions{.lr = 0.05, .weight_decay = 0.01, .trust_coefficient = 0.5, .clip = true})},
    };
    for (const auto& [name, make] : forms) optimizers.push_back(named(name, make));
    return optimizers;
  }();
  return all;
}

}  // namespace weft::testing
