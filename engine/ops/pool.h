#pragma once

#include "weft/engine/tensor.h"

namespace weft {

struct Pool2dOptions {
  int64_t kernel = 2;
  int64_t stride = 0;  ///< 0: as the kernel
  int64_t padding = 0;
  bool ceil_mode = false;  ///< round the output size up; windows then hang over the edge, as in PyTorch
  bool count_include_pad = true;  ///< average only
};
/// The windows that halve both sides of an image, rounded up.
constexpr Pool2dOptions kHalves{.kernel = 2, .ceil_mode = true};

/// x [N, H, W, C] -> [N, OH, OW, C].
Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options = {});
Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options = {});
/// Mean over the image: [N, H, W, C] -> [N, C].
Tensor global_avg_pool(const Tensor& x);

}  // namespace weft
