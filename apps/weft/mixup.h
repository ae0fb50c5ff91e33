// Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018), weighted image by image as
// fastai does.
#pragma once

#include <cstdint>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft::app {

/// `count` draws of max(w, 1 - w), w ~ Beta(alpha, alpha); a pure function of its arguments.
std::vector<float> mixup_weights(double alpha, int64_t count, uint64_t key);

struct Mixed {
  Tensor images;   ///< f32 [N, H, W, 3]: weight * image + (1 - weight) * partner
  Tensor targets;  ///< f32 [N, classes]: weight on the image's class, the rest on the partner's
};

/// Mixes every image with one of the same batch, drawn without repetition. images: f32 [N, H, W, 3], labels:
/// i64 [N]. A pure function of its arguments: `key` decides partners and weights.
Mixed mixup(const Tensor& images, const Tensor& labels, int64_t classes, double alpha, uint64_t key);

}  // namespace weft::app
