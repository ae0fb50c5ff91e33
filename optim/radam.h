// RAdam: Adam that waits for its second moment to be trustworthy.
#pragma once

#include <array>
#include <vector>

#include "weft/optim/grouped.h"

namespace weft::optim {

struct RAdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;              ///< lambda
  bool decoupled_weight_decay = false;  ///< PyTorch: false; the authors' code: true
  double threshold = 5;                 ///< of rho_t; the paper: 4; the authors' code and PyTorch: 5
};

/// What RAdam multiplies its direction by at update t.
struct RAdamStep {
  bool adaptive = false;  ///< the direction: m / (sqrt(v) + eps) if true, else m
  double size = 0;        ///< without the learning rate
};

/// rho_inf = 2 / (1 - beta2) - 1,  rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t).  Where rho_t > threshold:
///   size = sqrt((1 - beta2^t) (rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t)) / (1 -
///   beta1^t),
/// else size = 1 / (1 - beta1^t). It depends on nothing but its arguments: the authors' code kept it, with
/// the learning rate in it, from one parameter group to the next
/// (https://github.com/LiyuanLucasLiu/RAdam/issues/24).
RAdamStep radam_step(int64_t t, const std::array<double, 2>& betas, double threshold = 5);

/// RAdam (Liu et al. 2020, https://arxiv.org/abs/1908.03265, algorithm 2), eps outside of the debiasing as in
/// the authors' code and torch.optim.RAdam:
///
///   g <- g + lambda p                       (or p <- p (1 - lr lambda) where decoupled)
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   p <- p - lr size * (m / (sqrt(v) + eps), or m)     with radam_step(t)
///
/// rho_t is about t at the start, so with threshold 5 the first five updates are plain momentum steps at the
/// full rate. Slots: "exp_avg" (m), "exp_avg_sq" (v).
class RAdam : public GroupedOptimizer<RAdamOptions> {
 public:
  explicit RAdam(const std::vector<Parameter>& parameters, const Options& options = {}) {
    add_group(parameters, options);
  }
  const char* name() const override { return "radam"; }

 private:
  void check_options(const Options& options) const override;
  std::vector<Slot> slots(const Options&) const override { return {{"exp_avg"}, {"exp_avg_sq"}}; }
  void update(size_t group) override;
};

}  // namespace weft::optim
