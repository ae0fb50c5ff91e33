// Images at another size, by the nearest pixel or linearly between pixels. Names and values are PyTorch's.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "weft/engine/tensor.h"

namespace weft {

enum class InterpolateMode : uint8_t { nearest, bilinear };

struct InterpolateOptions {
  std::array<int64_t, 2> size = {};  ///< height and width; 0: by the scale
  double scale = 0;                  ///< size = floor(scale H), floor(scale W); 0: by the size
  InterpolateMode mode = InterpolateMode::nearest;
  bool align_corners = false;  ///< of bilinear: corners stay corners, instead of the images' borders
};

/// x [N, H, W, C] at another height and width, as torch.nn.functional.interpolate:
///
///   interpolate(x, {.scale = 2})
///   interpolate(x, {.size = {32, 48}, .mode = InterpolateMode::bilinear})
///
/// With s = H / height (1 / scale, where that is given) row i is row floor(s i) in mode nearest. In mode
/// bilinear it lies between rows at s (i + 1/2) - 1/2, or at 0 where that is less; with align_corners at
/// i (H - 1) / (height - 1). Columns likewise. There is no filter against aliasing.
Tensor interpolate(const Tensor& x, const InterpolateOptions& options);

namespace ops {
constexpr int kInterpolateConstants = 8;
/// Gives constant number `which` for an input of that size in the dtype and on the device of `like`: make()s
/// it, or keeps it from call to call, so that a captured step need not make it.
using InterpolateConstant = std::function<Tensor(int which, const Tensor& like, const Shape& size,
                                                 const std::function<Tensor()>& make)>;
Tensor interpolate(const Tensor& x, const InterpolateOptions& options, const InterpolateConstant& constant);
}  // namespace ops

}  // namespace weft
