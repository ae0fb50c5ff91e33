// AdamW: Adam with decoupled weight decay.
#pragma once

#include "weft/optim/adam.h"

namespace weft::optim {

struct AdamWOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 1e-2;

  /// The same, as Adam takes them.
  operator AdamOptions() const {
    return {
        .lr = lr, .betas = betas, .eps = eps, .weight_decay = weight_decay, .decoupled_weight_decay = true};
  }
};

/// AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101, algorithm 2), with PyTorch's defaults:
/// p <- p (1 - lr lambda), then Adam's update without decay in the gradient.
class AdamW : public Adam {
 public:
  explicit AdamW(const std::vector<Parameter>& parameters, const AdamWOptions& options = {})
      : Adam(parameters, options) {}
  void add_group(const std::vector<Parameter>& parameters, const AdamWOptions& options = {}) {
    Adam::add_group(parameters, options);
  }
  const char* name() const override { return "adamw"; }
};

}  // namespace weft::optim
