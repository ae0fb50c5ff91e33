// EvalGuard: evaluation mode for a while.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "weft/engine/module.h"

namespace weft {

/// Evaluation mode while it lives; then every module is in the mode that it was in.
class EvalGuard {
 public:
  explicit EvalGuard(Module& model) {
    model.visit([&](const std::string&, Module& m) { modes_.emplace_back(&m, m.training()); });
    model.eval();
  }
  // Parents come first in the list, so that each module's own mode is set last.
  ~EvalGuard() {
    for (auto& [module, training] : modes_) module->train(training);
  }
  EvalGuard(const EvalGuard&) = delete;
  EvalGuard& operator=(const EvalGuard&) = delete;

 private:
  std::vector<std::pair<Module*, bool>> modes_;
};

}  // namespace weft
