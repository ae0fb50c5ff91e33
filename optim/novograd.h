// NovoGrad: one second moment for each layer.
#pragma once

#include <array>
#include <vector>

#include "weft/optim/grouped.h"

namespace weft::optim {

struct NovoGradOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.95,
                                 0.98};  ///< the paper's; over9000 defaults to 0.95, 0 and uses 0.9, 0.99
  double eps = 1e-8;
  double weight_decay = 0;      ///< lambda
  bool grad_averaging = false;  ///< the new term of m gets the factor 1 - beta1
  bool restart_at_zero =
      false;  ///< over9000: v is set to |g|^2 whenever it is 0, not at the first update only
};

/// NovoGrad (Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286, algorithm 1). For each parameter tensor,
/// v a scalar:
///
///   v <- |g|^2 at the first update, then beta2 v + (1 - beta2) |g|^2
///   m <- beta1 m + (g / (sqrt(v) + eps) + lambda p)
///   p <- p - lr m
///
/// With `restart_at_zero` (and optionally `grad_averaging`) it is the form of over9000 (novograd.py, from
/// NVIDIA's), where a first gradient of zero does not count as the first. Slots: "exp_avg" (m), "exp_avg_sq"
/// (v, always an f64 scalar).
class NovoGrad : public GroupedOptimizer<NovoGradOptions> {
 public:
  explicit NovoGrad(const std::vector<Parameter>& parameters, const Options& options = {}) {
    add_group(parameters, options);
  }
  const char* name() const override { return "novograd"; }

 private:
  void check_options(const Options& options) const override { check_common(options); }
  std::vector<Slot> slots(const Options&) const override { return {{"exp_avg"}, {"exp_avg_sq", true}}; }
  void update(size_t group) override;
};

}  // namespace weft::optim
