// Adam.
#pragma once

#include <array>
#include <vector>

#include "weft/optim/grouped.h"

namespace weft::optim {

struct AdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;              ///< lambda
  bool decoupled_weight_decay = false;  ///< true: AdamW
};

/// Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1), eps as in torch.optim.Adam:
///
///   g <- g + lambda p                       (or p <- p (1 - lr lambda) where decoupled)
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   p <- p - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)
///
/// t counts the parameter's own updates. Slots: "exp_avg" (m), "exp_avg_sq" (v).
class Adam : public GroupedOptimizer<AdamOptions> {
 public:
  explicit Adam(const std::vector<Parameter>& parameters, const Options& options = {}) {
    add_group(parameters, options);
  }
  const char* name() const override { return "adam"; }

 private:
  void check_options(const Options& options) const override { check_common(options); }
  std::vector<Slot> slots(const Options&) const override { return {{"exp_avg"}, {"exp_avg_sq"}}; }
  void update(size_t group) override;
};

}  // namespace weft::optim
