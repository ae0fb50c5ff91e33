// The step of a FormulaOptimizer.
#pragma once

#include "weft/optim/formula_optimizer.h"
#include "weft/optim/multi_tensor.h"

namespace weft::optim {

template <class Self>
void run_formula(Self& optimizer, size_t group) {
  using Options = typename Self::Options;
  const auto run = [&](const auto& make) { MultiTensor::step(optimizer, group, make); };
  if constexpr (requires { Self::choose(size_t(), run); })
    Self::choose(MultiTensor::slots(optimizer, group), run);
  else
    run([](const Options& o, int64_t t, auto type) { return Self::template formula<decltype(type)>(o, t); });
}

}  // namespace weft::optim
