// Batches for training wherever the model is: the interface of all loaders but ImageLoader, which it is
// after.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

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

/// All on one device.
struct DeviceBatch {
  Tensor images;   ///< [N, size, size, channels], normalised
  Tensor labels;   ///< i64 [N]; of a mixed picture, that of the picture itself
  Tensor targets;  ///< f32 [N, classes] with mixup: the weights of the classes; else undefined
};

/// ImageLoader with batches on a device of choice: the same pictures, crops and labels in the same order, so
/// read there what is said of epochs, resuming and pictures that cannot be decoded. Images that a GPU made
/// differ from ImageLoader's by the rounding of floats.
///
/// A captured step asks for its batch within the capture, and gets the fixed buffers then, while the epoch
/// does not move. From there on each batch takes feed() and one launch of the graph, in the place of next():
///
///     if (loader.next_size() == batch_size) loader.feed(), graph->launch();
///     else if (auto batch = loader.next()) ...  // a short batch, or the end of the epoch
class BatchLoader {
 public:
  virtual ~BatchLoader() = default;

  virtual int64_t batches() const = 0;
  virtual const ImageDataset& dataset() const = 0;
  virtual const LoaderOptions& options() const = 0;

  virtual void begin_epoch(int64_t epoch, int64_t first_batch = 0) = 0;
  virtual std::optional<DeviceBatch> next() = 0;
  virtual int64_t position() const = 0;
  virtual int64_t epoch() const = 0;
  virtual std::vector<Skipped> skipped() const = 0;

  /// Pictures of the batch that comes next; 0 where next() will end the epoch, or throw.
  virtual int64_t next_size() = 0;
  /// Prepares one launch of a graph in which next() was captured: the batch that comes next, which must be a
  /// full one.
  virtual void feed() = 0;
};

/// Batches on `device`: on a GPU a ResidentLoader where the pictures fit into its memory, else an
/// UploadingLoader; on the CPU an ImageLoader's, with mixup.
std::unique_ptr<BatchLoader> make_batches(const ImageDataset& dataset, const LoaderOptions& options,
                                          Device device, const BatchOptions& batch_options = {});

/// images f32 [N, H, W, 3]: weight * image + (1 - weight) * partner; targets f32 [N, classes]: weight on the
/// image's class, the rest on the partner's. Boxes are cut as Mix says.
DeviceBatch mixup(const Batch& batch, std::span<const Mix> mix, int64_t classes);

}  // namespace weft::data
