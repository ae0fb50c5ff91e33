// The networks of the family, as data.
#include "weft/layers/xresnet.h"

namespace weft {

XResNetPlan xresnet_plan(int depth) {
  struct Row {
    int depth;
    int64_t expansion;
    std::array<int, 4> blocks;
  };
  static constexpr Row kRows[] = {
      {18, 1, {2, 2, 2, 2}},   {34, 1, {3, 4, 6, 3}},   {50, 4, {3, 4, 6, 3}},
      {101, 4, {3, 4, 23, 3}}, {152, 4, {3, 8, 36, 3}},
  };
  for (const Row& row : kRows)
    if (row.depth == depth)
      return {.name = concat("XResNet", depth), .blocks = row.blocks, .block = {.expansion = row.expansion}};
  fail("XResNet: there is no depth ", depth, "; known: 18, 34, 50, 101, 152");
}

XResNetPlan trick_plan(int depth) {
  XResNetPlan plan = xresnet_plan(depth);
  plan.name += "-trick";
  plan.block.pool = BlockPool::max_blur;
  plan.block.pool_first = true;
  plan.max_blur_stem = true;
  return plan;
}

XResNetPlan depthwise_plan(int64_t multiplier) {
  return {.name = concat("XResNet-dw", multiplier),
          .blocks = {3, 6, 8, 3},
          .block = {.expansion = 4, .pool = BlockPool::max_blur, .pool_first = true, .depthwise = multiplier},
          .separable_stem = multiplier};
}

XResNetPlan depthwise_norm_plan(int64_t multiplier) {
  XResNetPlan plan = depthwise_plan(multiplier);
  plan.name += "-bn";
  plan.block.depthwise_norm = true;
  plan.separable_stem = 0;
  plan.max_blur_stem = true;
  return plan;
}

XResNetPlan resnext_plan(int depth, int64_t reduction) {
  XResNetPlan plan = xresnet_plan(depth);
  plan.name = concat(reduction > 0 ? "XSE-ResNeXt" : "XResNeXt", depth);
  plan.block.pool = BlockPool::max;
  plan.block.groups = 32;
  plan.block.reduction = reduction;
  plan.base_width = 4;
  plan.stem = {32, 32, 64};
  return plan;
}

}  // namespace weft
