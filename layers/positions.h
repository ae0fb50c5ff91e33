// What tells a transformer the places of its inputs.
#pragma once

#include "weft/engine/module.h"
#include "weft/layers/cached_constant.h"

namespace weft {

/// The sinusoidal encoding of Vaswani et al., 2017, section 3.5: row p of [length, width] is
///   sin(p / 10000^(2 i / width)) in column 2 i, cos of the same in column 2 i + 1.
Tensor sinusoidal_positions(int64_t length, int64_t width);
/// The same for places of an image, [height width, channels], channels a multiple of 4 and at least 8: its
/// quarters are sin and cos of the column, then of the row, times 1 / 10000^(i / (channels / 4 - 1)). Source:
/// Beyer, Zhai and Kolesnikov, 2022, "Better plain ViT baselines for ImageNet-1k" (arXiv 2205.01580),
/// posemb_sincos_2d.
Tensor sinusoidal_positions_2d(int64_t height, int64_t width, int64_t channels);

/// Adds sinusoidal_positions(): x [N, L, E] for any L. Has no state.
class SinusoidalPositions : public Module {
 public:
  using Module::Module;
  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "SinusoidalPositions"; }

 private:
  CachedConstant table_;
};

/// Adds a learned vector for each place: x [N, L, E] with L up to max_length. Parameter weight [max_length,
/// E], which starts with normal numbers of standard deviation 0.02.
class LearnedPositions : public Module {
 public:
  LearnedPositions(Module& parent, std::string_view name, int64_t max_length, int64_t channels,
                   Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor weight;
};

}  // namespace weft
