// Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018), weighted image by image as
// fastai does.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "weft/engine/data/batch_loader.h"

namespace weft::app {

/// `count` draws of max(w, 1 - w), w ~ Beta(alpha, alpha); a pure function of its arguments.
std::vector<float> mixup_weights(double alpha, int64_t count, uint64_t key);

/// Gives every image of a batch a partner in it, drawn without repetition, and its own weight. A pure
/// function of its arguments.
void draw_mixup(double alpha, uint64_t key, std::span<data::Mix> mix);

/// images f32 [N, H, W, 3]: weight * image + (1 - weight) * partner; targets f32 [N, classes]: weight on the
/// image's class, the rest on the partner's.
data::DeviceBatch mixup(const data::Batch& batch, std::span<const data::Mix> mix, int64_t classes);

}  // namespace weft::app
