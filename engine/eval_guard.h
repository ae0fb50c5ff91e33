// EvalGuard: evaluation mode for a while.
#pragma once

#include <string>
#include <vector>

#include "weft/engine/module.h"

namespace weft {

/// Evaluation mode while it lives; then every module is in the mode that it was in, optimize_for_inference()
/// included.
class EvalGuard {
 public:
  explicit EvalGuard(Module& model) {
    model.visit([&](const std::string&, Module& m) { modes_.push_back({&m, m.training_, m.optimized_}); });
    model.eval();
  }
  ~EvalGuard() {
    for (const Mode& m : modes_) m.module->training_ = m.training, m.module->optimized_ = m.optimized;
  }
  EvalGuard(const EvalGuard&) = delete;
  EvalGuard& operator=(const EvalGuard&) = delete;

 private:
  struct Mode {
    Module* module;
    bool training, optimized;
  };
  std::vector<Mode> modes_;
};

}  // namespace weft
