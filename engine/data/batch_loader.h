// Batches for training wherever the model is: the interface of all loaders but ImageLoader, which it is
// after.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "weft/engine/batches.h"
#include "weft/engine/data/loader.h"

namespace weft::data {

/// How picture i of a batch is mixed with another one: weight * itself + (1 - weight) * picture `partner`.
/// With a `cut` that is not empty it is the partner there and itself elsewhere; weight is then its share of
/// the target alone.
struct Mix {
  float weight = 1;
  int64_t partner = 0;
  kernels::PixelBox cut = {};
};

struct BatchOptions {
  DType dtype = DType::f32;  ///< of the images: f32, bf16 or f16
  int channels = 3;          ///< of the images: 3, or 4 or 8, of which those after the first three are zero
  /// Full batches are all in the same tensors, each overwriting the one before. Needed for captured steps.
  bool fixed_buffers = false;
  /// Decides how the pictures of batch `batch` of `epoch` are mixed, by draw_mixup() or draw_cutmix() of
  /// mixing.h or otherwise: fills in `mix`, one element a picture. A function of its arguments, as a
  /// batch may be prepared and then not given out. Where empty nothing is mixed.
  std::function<void(int64_t epoch, int64_t batch, std::span<Mix> mix)> mixup = {};
  bool cutmix = false;  ///< `mixup` may cut boxes
  /// The most that the decoded pictures may take of the GPU's memory; -1 is half of what is free now.
  int64_t resident_bytes = -1;
};

/// ImageLoader with batches on a device of choice: the same pictures, crops and labels in the same order, so
/// read there what is said of epochs, resuming and pictures that cannot be decoded. Images that a GPU made
/// differ from ImageLoader's by the rounding of floats. Labels y are i64 [N]; of a mixed picture, that of the
/// picture itself. Targets are f32 [N, classes] with mixup: the weights of the classes.
class BatchLoader : public Batches {
 public:
  virtual const ImageDataset& dataset() const = 0;
  virtual const LoaderOptions& options() const = 0;
  int64_t batch_size() const override { return options().batch_size; }
  /// See ImageLoader::tell_skipped().
  virtual void tell_skipped() = 0;
};

/// Batches on `device`: on a GPU a ResidentLoader where the pictures fit into its memory, else an
/// UploadingLoader; on the CPU an ImageLoader's, with mixup.
std::unique_ptr<BatchLoader> make_batches(const ImageDataset& dataset, const LoaderOptions& options,
                                          Device device, const BatchOptions& batch_options = {});

/// images f32 [N, H, W, 3]: weight * image + (1 - weight) * partner; targets f32 [N, classes]: weight on the
/// image's class, the rest on the partner's. Boxes are cut as Mix says.
DeviceBatch mixup(const Batch& batch, std::span<const Mix> mix, int64_t classes);

}  // namespace weft::data
