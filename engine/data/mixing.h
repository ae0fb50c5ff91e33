// How the pictures of a batch are mixed: what BatchOptions::mixup may be made of.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "weft/engine/data/batch_loader.h"

namespace weft::data {

/// `count` draws of max(w, 1 - w), w ~ Beta(alpha, alpha); a pure function of its arguments.
std::vector<float> mixup_weights(double alpha, int64_t count, uint64_t key);

/// Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018), weighted image by image as
/// fastai does: gives every image of a batch a partner in it, drawn without repetition, and its own weight. A
/// pure function of its arguments.
void draw_mixup(double alpha, uint64_t key, std::span<Mix> mix);

/// CutMix (Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
/// Features", ICCV 2019) for pictures of `side` pixels squared. w ~ Beta(alpha, alpha) of each image asks for
/// a box of the share 1 - w of its area around a random pixel, where its partner shows; what lies outside the
/// picture is cut off, and the weight is the share of pixels that then stay. A pure function of its
/// arguments.
void draw_cutmix(double alpha, int side, uint64_t key, std::span<Mix> mix);

}  // namespace weft::data
