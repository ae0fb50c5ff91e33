#pragma once

#include "weft/engine/module.h"
#include "weft/engine/ops/shape.h"

namespace weft {

/// All dimensions from `start` on become one: x [N, H, W, C] -> [N, H W C]. The order is NHWC's; a Linear
/// trained behind PyTorch's Flatten needs its inputs reordered.
class Flatten : public Module {
 public:
  Flatten(Module& parent, std::string_view name, int start = 1) : Module(parent, name), start_(start) {}
  Tensor forward(const Tensor& x) override { return flatten(x, start_); }
  std::string description() const override { return "Flatten"; }

 private:
  int start_;
};

}  // namespace weft
