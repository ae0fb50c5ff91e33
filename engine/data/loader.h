// Batches for training and validation, prepared ahead by threads of their own.
#pragma once

#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "weft/engine/batches.h"
#include "weft/engine/data/augment.h"
#include "weft/engine/data/dataset.h"
#include "weft/engine/data/transforms.h"
#include "weft/engine/tensor.h"

namespace weft::data {

struct LoaderOptions {
  int size = 128;              ///< side of the square pictures
  int batch_size = 64;         ///< pictures in a batch; the last one of an epoch may have fewer
  bool train = true;           ///< shuffle, random crop and flip; else in order, resize and centre crop
  double min_scale = 0.35;     ///< training: the least share of a picture's area in a crop
  bool flip = true;            ///< training: mirror a picture with probability 1/2
  PadAndCrop pad = {};         ///< training: crops at random places after padding in the place of `min_scale`
  ColorJitter jitter = {};     ///< training: random changes of the colours
  RandomErasing erasing = {};  ///< training: random boxes without a picture
  int resize = 0;              ///< validation: the short side before the crop of `size`; 0 is `size`
  uint64_t seed = 42;
  int threads = 1;         ///< threads that prepare batches
  int prefetch = 2;        ///< batches kept ready for each thread
  bool drop_last = false;  ///< leave out an incomplete last batch
  bool strict = false;     ///< a picture that cannot be decoded is an Error; else it is left out and counted
  /// A batch that has lost pictures is passed over where fewer are left. 2 is for models with batch norm,
  /// which cannot be trained on one value per channel.
  int smallest_batch = 1;
  /// Decode JPEGs at 1/2, 1/4 or 1/8 where even the smallest crop of that has sides of at least 2 * `size`;
  /// see DecodeOptions. Photographs of megapixels decode twice as fast so, for a mean change of a tenth of a
  /// grey level.
  bool reduced_decode = true;
  int64_t cache_bytes = 0;  ///< keep decoded pictures up to this much memory; the first that come stay
  Normalize normalize = {};
  /// Takes the loader's warnings; where empty they go to the standard error stream.
  std::function<void(const std::string&)> warn = {};
};

struct Batch {
  Tensor images = {};  ///< f32 [N, size, size, 3], normalised
  Tensor labels = {};  ///< i64 [N]
};

/// Gives out the batches of an epoch in order. Order, crops and flips depend on (seed, epoch, position)
/// alone, not on threads or time, so an epoch can be begun again at any batch with the same pictures. Not for
/// use by several threads at once.
///
/// A picture that cannot be decoded is left out of its batch, which then has fewer pictures; the other
/// batches and their number stay as they are, so schedules and resuming are not disturbed. A batch that loses
/// all its pictures is passed over. One warning at the end of an epoch counts and names them.
class ImageLoader {
 public:
  /// Throws Error for options that make no sense, or make no batch.
  explicit ImageLoader(ImageDataset dataset, LoaderOptions options = {});
  ~ImageLoader();
  ImageLoader(ImageLoader&&) noexcept;
  ImageLoader& operator=(ImageLoader&&) noexcept;

  /// Batches of a full epoch.
  int64_t batches() const;
  const ImageDataset& dataset() const;
  const LoaderOptions& options() const;

  /// Starts `epoch` (counted from 0) at batch `first_batch`, dropping what is left of the current one.
  void begin_epoch(int64_t epoch, int64_t first_batch = 0);
  /// The next batch of the epoch; nullopt at its end. Throws Error for a picture that cannot be decoded where
  /// `strict`, for a file that cannot be read, and where a whole epoch had no picture that could be decoded,
  /// or no batch that was not passed over; a new epoch must be begun then.
  std::optional<Batch> next();
  /// Index in the epoch of the first batch not given out yet: what begin_epoch takes to go on from here.
  int64_t position() const;
  int64_t epoch() const;
  /// Pictures left out so far, by name.
  std::vector<Skipped> skipped() const;
  /// Gives the warning of the end of an epoch now, if there is something new to warn of: where the epoch will
  /// not come to its end.
  void tell_skipped();

  /// `for (auto& [images, labels] : loader)` goes through the rest of the epoch begun; where none is begun or
  /// it has ended, through the next one.
  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = Batch;
    Iterator() = default;
    explicit Iterator(ImageLoader* loader) : loader_(loader) { ++*this; }
    Batch& operator*() const { return *batch_; }
    Batch* operator->() const { return &*batch_; }
    Iterator& operator++() {
      batch_.reset();  // its memory may serve the next one
      batch_ = loader_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return !batch_; }

   private:
    ImageLoader* loader_ = nullptr;
    mutable std::optional<Batch> batch_;
  };
  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weft::data
