#include "weft/engine/data/loader.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <iostream>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "weft/engine/error.h"
#include "weft/kernels/philox.h"

namespace weft::data {

namespace {

constexpr uint64_t kShuffleStream = 0x73687566;  // "shuf": apart from the other streams of the seed

// A picture as it was decoded, and its size in the file.
struct Picture {
  Image image;
  ImageSize size;
};

// What a worker made of one batch. All its pictures may have been left out.
struct Slot {
  bool ready = false;
  std::optional<Batch> batch;
  std::exception_ptr error;
};

}  // namespace

struct ImageLoader::State {
  ImageDataset dataset;
  LoaderOptions options;
  std::vector<std::shared_ptr<const Picture>>
      cache;  // slot i is written by the one worker that has picture i in this epoch
  std::atomic<int64_t> cached_bytes{0};

  // Of the current epoch; read by the workers, written only while there are none.
  int64_t epoch = -1, batches = 0;
  std::vector<int64_t> order;
  bool running = false, whole = false, any = false;

  std::vector<std::thread> workers;
  mutable std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  bool stop = false;
  int64_t claimed = 0;                     // first batch that no worker has taken
  int64_t given = 0;                       // first batch that was not given out
  std::map<int64_t, Slot> slots;           // batches that are done
  std::map<int64_t, std::string> skipped;  // reason by index of the picture
  size_t warned = 0;

  ~State() { stop_workers(); }

  void stop_workers() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    changed.notify_all();
    for (std::thread& t : workers) t.join();
    workers.clear();
    slots.clear();
    stop = false;
    running = false;
  }

  bool stopping() const {
    const std::lock_guard lock(mutex);
    return stop;
  }

  void work() {
    std::unique_lock lock(mutex);
    const int64_t ahead = int64_t(options.threads) * options.prefetch;
    while (true) {
      changed.wait(lock, [&] { return stop || claimed == batches || claimed < given + ahead; });
      if (stop || claimed == batches) return;
      const int64_t b = claimed++;
      lock.unlock();
      Slot slot{true, std::nullopt, nullptr};
      try {
        slot.batch = make_batch(b);
      } catch (...) {
        slot.error = std::current_exception();
      }
      lock.lock();
      slots[b] = std::move(slot);
      changed.notify_all();
    }
  }

  std::optional<Batch> make_batch(int64_t b) {
    const int64_t from = b * options.batch_size,
                  to = std::min<int64_t>(from + options.batch_size, dataset.size());
    const int64_t side = options.size, pixels = side * side * 3;
    Batch batch{Tensor::empty({to - from, side, side, 3}), Tensor::empty({to - from}, DType::i64)};
    int64_t n = 0;
    for (int64_t position = from; position < to; ++position) {
      if (stopping()) return std::nullopt;
      const int64_t i = order[size_t(position)];
      if (!prepare(i, batch.images.data<float>() + n * pixels)) continue;
      batch.labels.data<int64_t>()[n++] = dataset.label(i);
    }
    if (n == 0) return std::nullopt;
    if (n < to - from) {
      Batch shorter{Tensor::empty({n, side, side, 3}), Tensor::empty({n}, DType::i64)};
      std::memcpy(shorter.images.raw(), batch.images.raw(), size_t(shorter.images.bytes()));
      std::memcpy(shorter.labels.raw(), batch.labels.raw(), size_t(shorter.labels.bytes()));
      return shorter;
    }
    return batch;
  }

  // Decodes and transforms picture i; false where that is not possible.
  bool prepare(int64_t i, float* out) {
    std::shared_ptr<const Picture> picture = cache[size_t(i)];
    const Bytes encoded = picture ? nullptr : dataset.encoded(i);
    try {
      if (!picture) picture = decoded(i, encoded);
      if (options.train)
        prepare_crop(*picture, i, out);
      else
        resize_center_crop(picture->image, options.size, options.resize, options.normalize, out);
      return true;
    } catch (const OutOfMemoryError&) {
      throw;
    } catch (const Error& e) {
      check(!options.strict, "data: ", dataset.name(i), " cannot be decoded: ", e.what());
      const std::lock_guard lock(mutex);
      skipped[i] = e.what();
      return false;
    }
  }

  void prepare_crop(const Picture& picture, int64_t i, float* out) {
    const Image& image = picture.image;
    Crop crop = random_resized_crop(picture.size, options.min_scale, options.seed, epoch, i);
    if (image.width != picture.size.width || image.height != picture.size.height) {
      const double x = double(image.width) / picture.size.width,
                   y = double(image.height) / picture.size.height;
      Box& b = crop.box;
      b = {b.left * x, b.top * y, b.width * x, b.height * y};
      b.width = std::min(b.width, image.width - b.left);
      b.height = std::min(b.height, image.height - b.top);
    }
    resize_crop(image, crop.box, options.size, options.size, crop.flip, options.normalize, out);
  }

  // The largest reduction that leaves the shorter side of whatever is cut out twice the pixels that are
  // wanted, so that the resize still does most of the filtering. It depends on the picture's size alone and
  // not on the crop, so that what is decoded serves every epoch.
  int reduction(ImageSize full) const {
    const double shorter = std::min(full.height, full.width);
    const double side =
        options.train ? std::min(shorter, std::sqrt(options.min_scale * full.height * full.width * 3 / 4))
                      : shorter * options.size / options.resize;
    int reduce = 1;
    while (reduce < 8 && side / (2 * reduce) >= 2 * options.size) reduce *= 2;
    return reduce;
  }

  std::shared_ptr<const Picture> decoded(int64_t i, const Bytes& encoded) {
    auto picture = std::make_shared<Picture>();
    picture->size = image_size(*encoded);
    picture->image =
        decode_image(*encoded, {.reduce = options.reduced_decode ? reduction(picture->size) : 1});
    const int64_t bytes = int64_t(picture->image.pixels.size());
    if (cached_bytes.fetch_add(bytes) + bytes <= options.cache_bytes)
      cache[size_t(i)] = picture;
    else
      cached_bytes.fetch_sub(bytes);
    return picture;
  }

  void warn_of_skipped() {
    std::string text;
    {
      const std::lock_guard lock(mutex);
      if (skipped.size() == warned) return;
      warned = skipped.size();
      text = concat("warning: ", skipped.size(), " of ", dataset.size(), " pictures of ", dataset.split(),
                    " cannot be decoded and are left out: ");
      int named = 0;
      for (const auto& [i, reason] : skipped) {
        if (named == 3) {
          text += ", ...";
          break;
        }
        text += concat(named++ ? ", " : "", dataset.name(i), " (", reason, ")");
      }
    }
    if (options.warn)
      options.warn(text);
    else
      std::cerr << text << std::endl;
  }
};

ImageLoader::ImageLoader(ImageDataset dataset, LoaderOptions options) : state_(std::make_unique<State>()) {
  check(options.size >= 1 && options.size <= 8192, "loader: size is ", options.size,
        ", but must be 1 to 8192");
  check(options.batch_size >= 1, "loader: batch_size is ", options.batch_size, ", but must be at least 1");
  check(options.threads >= 1 && options.threads <= 256, "loader: threads is ", options.threads,
        ", but must be 1 to 256");
  check(options.prefetch >= 1, "loader: prefetch is ", options.prefetch, ", but must be at least 1");
  check(options.min_scale > 0 && options.min_scale <= 1, "loader: min_scale is ", options.min_scale,
        ", but must be in (0, 1]");
  if (options.resize == 0) options.resize = options.size;
  check(options.resize >= options.size, "loader: resize is ", options.resize,
        ", but must be at least the size ", options.size);
  for (float s : options.normalize.std) check(s > 0, "loader: normalize.std is ", s, ", but must be above 0");
  const int64_t n = dataset.size(), size = options.batch_size;
  State& s = *state_;
  s.batches = options.drop_last ? n / size : (n + size - 1) / size;
  check(s.batches > 0, "loader: ", n, " pictures make no full batch of ", size,
        ": take a smaller batch_size or keep the last batch");
  s.cache.resize(size_t(n));
  s.dataset = std::move(dataset);
  s.options = std::move(options);
}

ImageLoader::~ImageLoader() = default;
ImageLoader::ImageLoader(ImageLoader&&) noexcept = default;
ImageLoader& ImageLoader::operator=(ImageLoader&&) noexcept = default;

int64_t ImageLoader::batches() const { return state_->batches; }
const ImageDataset& ImageLoader::dataset() const { return state_->dataset; }
const LoaderOptions& ImageLoader::options() const { return state_->options; }
int64_t ImageLoader::epoch() const { return state_->epoch; }

int64_t ImageLoader::position() const {
  const std::lock_guard lock(state_->mutex);
  return state_->given;
}

std::vector<Skipped> ImageLoader::skipped() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<Skipped> list;
  for (const auto& [i, reason] : state_->skipped) list.push_back({state_->dataset.name(i), reason});
  return list;
}

void ImageLoader::begin_epoch(int64_t epoch, int64_t first_batch) {
  State& s = *state_;
  check(epoch >= 0, "loader: epoch is ", epoch, ", but counts from 0");
  check(first_batch >= 0 && first_batch <= s.batches, "loader: first_batch is ", first_batch,
        ", but an epoch has ", s.batches, " batches");
  s.stop_workers();
  s.epoch = epoch;
  s.given = s.claimed = first_batch;
  s.running = true;
  s.whole = first_batch == 0;
  s.any = false;
  if (s.options.train) {
    const auto key = kernels::philox(s.options.seed, uint64_t(epoch), kShuffleStream);
    s.order = random_permutation(s.dataset.size(), uint64_t(key[0]) << 32 | key[1]);
  } else if (s.order.empty()) {
    for (int64_t i = 0; i < s.dataset.size(); ++i) s.order.push_back(i);
  }
  const int64_t threads = std::min<int64_t>(s.options.threads, s.batches - first_batch);
  try {
    for (int64_t i = 0; i < threads; ++i) s.workers.emplace_back([&s] { s.work(); });
  } catch (const std::system_error& e) {
    if (s.workers.empty()) fail("loader: cannot start a thread: ", e.what());  // fewer threads do as well
  }
}

std::optional<Batch> ImageLoader::next() {
  State& s = *state_;
  check(s.running, "loader: no epoch is begun, call begin_epoch first");
  while (true) {
    Slot slot;
    {
      std::unique_lock lock(s.mutex);
      if (s.given == s.batches) break;
      s.changed.wait(lock, [&] { return s.slots.contains(s.given); });
      slot = std::move(s.slots.at(s.given));
      s.slots.erase(s.given++);
    }
    s.changed.notify_all();
    if (slot.error) {
      s.stop_workers();
      std::rethrow_exception(slot.error);
    }
    if (!slot.batch) continue;
    s.any = true;
    return std::move(slot.batch);
  }
  s.stop_workers();
  s.warn_of_skipped();
  check(s.any || !s.whole, "data: none of the ", s.dataset.size(), " pictures of ", s.dataset.split(),
        " can be decoded");
  return std::nullopt;
}

ImageLoader::Iterator ImageLoader::begin() {
  if (!state_->running) begin_epoch(state_->epoch + 1);
  return Iterator(this);
}

}  // namespace weft::data
