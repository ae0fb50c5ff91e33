#pragma once

#include <array>

#include "weft/engine/module.h"
#include "weft/engine/ops/interpolate.h"
#include "weft/engine/ops/pool.h"
#include "weft/layers/cached_constant.h"

namespace weft {

/// Largest element of each window: x [N, H, W, C] -> [N, OH, OW, C]. Options: kernel 2, stride (as the
/// kernel), padding 0, ceil_mode false.
class MaxPool2d : public Module {
 public:
  MaxPool2d(Module& parent, std::string_view name, const Pool2dOptions& options = {})
      : Module(parent, name), options_(options) {}
  Tensor forward(const Tensor& x) override { return max_pool2d(x, options_); }
  std::string description() const override;
  const Pool2dOptions& options() const { return options_; }

 private:
  Pool2dOptions options_;
};

/// Mean of each window, likewise; count_include_pad says whether padding counts (as in PyTorch it does by
/// default).
class AvgPool2d : public Module {
 public:
  AvgPool2d(Module& parent, std::string_view name, const Pool2dOptions& options = {})
      : Module(parent, name), options_(options) {}
  Tensor forward(const Tensor& x) override { return avg_pool2d(x, options_); }
  std::string description() const override;

 private:
  Pool2dOptions options_;
};

/// Images at another size: x [N, H, W, C] -> [N, size, C]; see interpolate(). A decoder's way up is {.scale =
/// 2}, nearest pixels.
class Upsample : public Module {
 public:
  Upsample(Module& parent, std::string_view name, const InterpolateOptions& options)
      : Module(parent, name), options_(options) {}
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

 private:
  InterpolateOptions options_;
  std::array<CachedConstant, ops::kInterpolateConstants> constants_;
};

/// Mean over the image: x [N, H, W, C] -> [N, C].
class GlobalAvgPool : public Module {
 public:
  using Module::Module;
  Tensor forward(const Tensor& x) override { return global_avg_pool(x); }
  std::string description() const override { return "GlobalAvgPool"; }
};

}  // namespace weft
