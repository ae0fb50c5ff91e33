// Stochastic gradient descent.
#pragma once

#include <vector>

#include "weft/optim/grouped.h"

namespace weft::optim {

struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0;      ///< mu; 0: no buffer is kept
  double dampening = 0;     ///< tau
  double weight_decay = 0;  ///< lambda
  bool nesterov = false;    ///< needs momentum > 0 and dampening 0
  bool decoupled_weight_decay = false;
};

/// SGD with momentum as PyTorch's torch.optim.SGD (which leaves the learning rate out of the buffer, unlike
/// Polyak 1964 and Sutskever et al. 2013):
///
///   g <- g + lambda p                       (or p <- p (1 - lr lambda) where decoupled, Loshchilov & Hutter
///   2019, alg. 1) u <- g at the first update, then mu u + (1 - tau) g p <- p - lr u (nesterov: p - lr (g +
///   mu u))
///
/// Slot: "momentum_buffer".
class SGD : public GroupedOptimizer<SGDOptions> {
 public:
  explicit SGD(const std::vector<Parameter>& parameters, const Options& options = {}) {
    add_group(parameters, options);
  }
  const char* name() const override { return "sgd"; }

 private:
  void check_options(const Options& options) const override;
  std::vector<Slot> slots(const Options& options) const override;
  void update(size_t group) override;
};

}  // namespace weft::optim
