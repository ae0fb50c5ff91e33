#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/dropout.h"

namespace weft {

/// In training: zeroes each element with probability p and scales the others by 1 / (1 - p). In evaluation:
/// nothing. Draws one stream of the generator per forward pass; the generator must outlive the layer.
class Dropout : public Module {
 public:
  Dropout(Module& parent, std::string_view name, double p = 0.5, Generator& generator = default_generator())
      : Module(parent, name), p_(p), generator_(generator) {
    check(p >= 0 && p <= 1, "Dropout ", name, ": ", p, " is no probability; it must lie in [0, 1]");
  }
  Tensor forward(const Tensor& x) override { return dropout(x, p_, training(), generator_); }
  std::string description() const override { return concat("Dropout(", p_, ")"); }

 private:
  double p_;
  Generator& generator_;
};

}  // namespace weft
