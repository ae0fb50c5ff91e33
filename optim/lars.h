// LARS: momentum SGD with a learning rate for each layer.
#pragma once

#include <vector>

#include "weft/optim/grouped.h"

namespace weft::optim {

struct LARSOptions {
  double lr = 1e-3;
  double momentum = 0.9;            ///< mu
  double weight_decay = 0;          ///< lambda
  double trust_coefficient = 1e-3;  ///< tau; fastai's larc takes 0.02
  bool clip = false;                ///< LARC: the layer's rate lr * ratio is at most lr
  bool adapt = true;                ///< false: ratio 1, momentum SGD; usual for biases and norm layers
};

/// LARS (You et al. 2017, https://arxiv.org/abs/1708.03888, algorithm 1). For each parameter tensor:
///
///   ratio = tau |p| / (|g| + lambda |p|)    (1 where |p| or |g| is 0; at most 1 where clipped)
///   u <- mu u + lr ratio (g + lambda p)
///   p <- p - u
///
/// Slot: "momentum_buffer" (u), which unlike SGD's contains the learning rate.
class LARS : public GroupedOptimizer<LARSOptions> {
 public:
  explicit LARS(const std::vector<Parameter>& parameters, const Options& options = {}) {
    add_group(parameters, options);
  }
  const char* name() const override { return "lars"; }

 private:
  void check_options(const Options& options) const override;
  std::vector<Slot> slots(const Options&) const override { return {{"momentum_buffer"}}; }
  void update(size_t group) override;
};

}  // namespace weft::optim
