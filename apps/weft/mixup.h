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

}  // namespace weft::app
