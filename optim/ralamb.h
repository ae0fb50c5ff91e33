// Ralamb: RAdam with a trust ratio for each layer, in two forms.
#pragma once

#include <array>
#include <vector>

#include "weft/optim/grouped.h"

namespace weft::optim {

/// What the weights' norm is divided by.
enum class TrustRatio : uint8_t {
  published,  ///< the norm of the weights after the step: over9000's code, by mistake
  intended,   ///< the norm of the step: LAMB's, https://arxiv.org/abs/1904.00962
};

struct RalambOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;  ///< lambda, decoupled
  double threshold = 5;     ///< of RAdam
  TrustRatio trust_ratio = TrustRatio::published;
};

/// RAdam with layer-wise rates. With dir and size of RAdam (radam_step), for each parameter tensor:
///
///   published (https://github.com/mgrankin/over9000, ralamb.py, since August 2019):
///     p <- p (1 - lr lambda),  p' = p - lr size dir,  ratio = clamp(|p|, 0, 10) / |p'|,  p <- p - lr ratio
///     size dir
///   intended (https://github.com/lessw2020/mish, rangerlars.py):
///     u = size dir + lambda p,  ratio = clamp(|p| / |u|, 0, 10),  p <- p - lr ratio u
///
/// with ratio 1 where either norm is 0. The published form divides by the norm of the new weights instead of
/// the step's: its ratio is about 1 for |p| <= 10 and about 10 / |p| above. It damps large tensors, and is no
/// LARS; yet over9000's table was made with it. Slots: "exp_avg", "exp_avg_sq".
class Ralamb : public GroupedOptimizer<RalambOptions> {
 public:
  explicit Ralamb(const std::vector<Parameter>& parameters, const Options& options = {}) {
    add_group(parameters, options);
  }
  const char* name() const override { return "ralamb"; }

 private:
  void check_options(const Options& options) const override;
  std::vector<Slot> slots(const Options&) const override { return {{"exp_avg"}, {"exp_avg_sq"}}; }
  void update(size_t group) override;
};

}  // namespace weft::optim
