// Batches made on the GPU from decoded pictures that lie in its memory: crop, resize, flip, normalise, mix.
// Plain C++: the floors above fill in the descriptors.
#pragma once

#include <cstdint>

#include "weft/kernels/half.h"
#include "weft/kernels/retouch.h"

namespace weft::kernels::cuda {

/// One direction of a resize. Output i of the picture has its centre at start + (from + i + 0.5) * scale in
/// the input; inputs outside [low, high) have no weight.
struct ResizeAxis {
  double start = 0, scale = 1;
  int32_t from = 0, low = 0, high = 0;
  int32_t unused = 0;
};

/// A picture in a batch: where its pixels lie, and what is made of them. At least one input lies in the reach
/// of every output.
struct PictureView {
  int64_t offset = 0;  ///< bytes from `pixels` to the picture, a multiple of 4
  int32_t pitch = 0;   ///< bytes from one row to the next, a multiple of 4, at least 3 * width
  int32_t flip = 0;    ///< 1: mirrored
  ResizeAxis rows, columns;
};

/// How picture i of a batch is mixed: weight * itself + (1 - weight) * picture `partner`; or, with a box, it
/// is the partner in the box and itself elsewhere, and weight is its share of the target only.
struct MixView {
  float weight = 1;
  int32_t partner = 0;
  PixelBox cut = {};
};

struct AugmentArgs {
  int64_t n = 0;     ///< pictures
  int size = 0;      ///< their sides
  int channels = 3;  ///< of the output, at least 3; those above hold zeros
  /// The output is value * scale + shift for a value of 0 to 255.
  float scale[3] = {1, 1, 1}, shift[3] = {0, 0, 0};
  const MixView* mix = nullptr;  ///< [n] in the device's memory, or null: nothing is mixed
};

/// out[i] [size, size, channels] = picture pictures[i] of RGB bytes, cropped, resized, mirrored, normalised
/// and mixed with another of the batch (boxes are not cut here). The filter is that of resize_crop
/// (engine/data/transforms.h). Pictures and pixels (aligned to 4 bytes) in the device's memory. T is float,
/// bf16 or f16.
template <class T>
void augment(const AugmentArgs& args, const PictureView* pictures, const uint8_t* pixels, T* out);

/// y[i] = mix[i].weight * x[i] + (1 - mix[i].weight) * x[mix[i].partner], for n rows of `row` elements; y = x
/// where `mix` is null. x and y may not overlap. From one of float, bf16 and f16 to the same, or from float.
/// Where boxes are cut the rows are square pictures of 3 channels.
template <class From, class To>
void mixup(int64_t n, int64_t row, const MixView* mix, const From* x, To* y);
/// The same for n pictures x [pixels, 3] that become y [pixels, channels]; channels above 3 hold zeros.
template <class To>
void mixup_padded(int64_t n, int64_t pixels, int channels, const MixView* mix, const float* x, To* y);

/// out[i] = pictures x[i] f32 [size, size, 3] padded and cropped as views[i].crop says, `fill` where that
/// adds nothing of the picture. x and out may not overlap.
struct PaddedCropArgs {
  int64_t n = 0;  ///< pictures
  int size = 0;   ///< their sides
  float fill[3] = {0, 0, 0};
};
void padded_crop(const PaddedCropArgs& args, const Retouch* views, const float* x, float* out);

struct RetouchArgs {
  int64_t n = 0;  ///< pictures
  int size = 0;   ///< their sides
  float scale[3] = {1, 1, 1}, shift[3] = {0, 0, 0};
  float fill[3] = {0, 0, 0};  ///< what erased pixels become
};
/// pictures f32 [n, size, size, 3] of values from 0 to 1 become jittered value * scale + shift, and `fill`
/// where they are erased.
void retouch(const RetouchArgs& args, const Retouch* views, float* pictures);

/// y[i] = labels[index[i]], and labels[i] where `index` is null.
void gather_labels(int64_t n, const int64_t* labels, const int64_t* index, int64_t* y);

/// targets [n, classes]: mix[i].weight on label i, the rest on the partner's. Where `mix` is null, 1 on label
/// i. A label outside [0, classes) gives its weight to no class.
void mix_targets(int64_t n, int64_t classes, const MixView* mix, const int64_t* labels, float* targets);

}  // namespace weft::kernels::cuda
