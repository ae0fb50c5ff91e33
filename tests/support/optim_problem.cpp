#include "support/optim_problem.h"

#include <cmath>

namespace weft::testing {
namespace {

const Shape kShapes[] = {{5}, {4, 3}, {3, 2, 2, 2}};
const double kScales[] = {1, 1, 5};

using Parameters = std::vector<Parameter>;

/// An optimizer with both groups from the first one's options.
template <class Opt, class Options>
NamedOptimizer of(const char* name, const Options& options, bool by_element = true) {
  return {name,
          [options](const Parameters& first, const Parameters& second) {
            auto optimizer = std::make_unique<Opt>(first, options);
            Options other = options;
            other.lr *= 0.3;
            other.weight_decay = 0;
            optimizer->add_group(second, other);
            return optimizer;
          },
          by_element};
}

NamedOptimizer in_lookahead(const char* name, const NamedOptimizer& inner,
                            const optim::LookaheadOptions& options) {
  return {name, [inner, options](const Parameters& first, const Parameters& second) {
            return std::make_unique<optim::Lookahead>(inner.make(first, second), options);
          }};
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

const std::vector<NamedOptimizer>& all_optimizers() {
  using namespace optim;
  static const std::vector<NamedOptimizer> all = [] {
    const auto adam = of<Adam>("adam", AdamOptions{.lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.01});
    const auto sgdw = of<SGD>(
        "sgd decoupled",
        SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.05, .decoupled_weight_decay = true});
    RangerLarsOptions fixed = kRangerLarsFixed;
    fixed.lr = 0.02;
    fixed.weight_decay = 0.05;
    return std::vector<NamedOptimizer>{
        of<SGD>("sgd", SGDOptions{.lr = 0.05, .weight_decay = 0.01}),
        of<SGD>("sgd momentum",
                SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01}),
        of<SGD>("sgd nesterov",
                SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true}),
        sgdw,
        adam,
        of<AdamW>("adamw", AdamWOptions{.lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.05}),
        of<RAdam>("radam", RAdamOptions{.lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.01}),
        in_lookahead("lookahead adam", adam, {.k = 5}),
        in_lookahead("lookahead adam lazy", adam, {.k = 6, .lazy = true}),
        in_lookahead("lookahead sgd", sgdw, {.k = 5, .alpha = 0.8}),
        of<Ranger>("ranger",
                   RangerOptions{.lr = 0.02, .betas = {0.95, 0.99}, .eps = 1e-6, .weight_decay = 0.05}),
        of<NovoGrad>("novograd", NovoGradOptions{.lr = 0.02, .weight_decay = 0.01}, false),
        of<NovoGrad>("novograd over9000",
                     NovoGradOptions{.lr = 0.02,
                                     .betas = {0.9, 0.99},
                                     .weight_decay = 0.01,
                                     .grad_averaging = true,
                                     .restart_at_zero = true},
                     false),
        of<LARS>("lars", LARSOptions{.lr = 0.5, .weight_decay = 0.01, .trust_coefficient = 0.02}, false),
        of<LARS>("lars clip",
                 LARSOptions{.lr = 0.05, .weight_decay = 0.01, .trust_coefficient = 0.5, .clip = true},
                 false),
        of<Ralamb>("ralamb", RalambOptions{.lr = 0.02, .betas = {0.9, 0.99}, .weight_decay = 0.05}, false),
        of<RangerLars>("rangerlars published",
                       RangerLarsOptions{.lr = 0.02, .betas = {0.9, 0.99}, .eps = 1e-6, .weight_decay = 0.05},
                       false),
        of<RangerLars>("rangerlars fixed", fixed, false),
    };
  }();
  return all;
}

}  // namespace weft::testing
