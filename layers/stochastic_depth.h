#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/stochastic_depth.h"

namespace weft {

/// stochastic_depth() as a layer, named and meant as torchvision.ops.StochasticDepth. The generator must
/// outlive it.
class StochasticDepth : public Module {
 public:
  StochasticDepth(Module& parent, std::string_view name, double p,
                  StochasticDepthMode mode = StochasticDepthMode::row,
                  Generator& generator = default_generator())
      : Module(parent, name), p_(p), mode_(mode), generator_(generator) {
    check(p >= 0 && p <= 1, "StochasticDepth ", name, ": ", p, " is no probability; it must lie in [0, 1]");
  }
  Tensor forward(const Tensor& x) override { return stochastic_depth(x, p_, mode_, training(), generator_); }
  std::string description() const override {
    return concat("StochasticDepth(", p_, mode_ == StochasticDepthMode::row ? ", row)" : ", batch)");
  }

 private:
  double p_;
  StochasticDepthMode mode_;
  Generator& generator_;
};

}  // namespace weft
