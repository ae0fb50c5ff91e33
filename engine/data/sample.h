// The built-in sample: pictures of ten drawn shapes, to try training with nothing to download.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weft/engine/data/dataset.h"
#include "weft/engine/data/image.h"

namespace weft::data {

/// The most pictures of a class: their numbers in the names of the files have five digits.
inline constexpr int kMaxSamplePictures = 100000;

struct SampleOptions {
  int pixels = 64;            ///< side of the square pictures, 16 to 1024
  int train_per_class = 200;  ///< training pictures of each class, 1 to kMaxSamplePictures
  int val_per_class = 50;     ///< validation pictures of each class, likewise
  uint64_t seed = 1;          ///< other seeds draw other pictures
};

/// The ten classes, sorted: checkerboard, circle, crescent, cross, ring, spiral, square, star, stripes,
/// triangle.
const std::vector<std::string>& sample_classes();

/// Picture `number` of a class: one shape of any colour, place, size and turn on a background of any colour,
/// with gradients, waves, blobs, lines and grain. Neither colour nor place tells the class, so that a linear
/// classifier on the pixels stays near chance while a small convolutional network can learn it. A pure
/// function of its arguments.
Image draw_sample(const std::string& split, int64_t label, int64_t number, const SampleOptions& options = {});

/// Split "train" or "val" of the sample as JPEGs in memory.
ImageDataset sample_dataset(const std::string& split, const SampleOptions& options = {});

/// Writes the sample as folders `path`/train/CLASS/CLASS_NUMBER.JPEG and `path`/val/..., the same pictures as
/// sample_dataset. They are drawn in a new folder beside `path`, and moved when all are there. Throws Error
/// where `path` exists already or cannot be written.
void make_sample_dataset(const std::string& path, const SampleOptions& options = {});

}  // namespace weft::data
