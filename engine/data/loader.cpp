#include "weft/engine/data/loader.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "weft/engine/data/preparation.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

// What a worker made of one batch, which may have to be passed over.
struct Slot {
  bool too_small = false;  // though some of its pictures were good
  std::optional<Batch> batch;
  std::exception_ptr error;
};

}  // namespace

struct ImageLoader::State {
  ImageDataset dataset;
  LoaderOptions options;
  // Slot i is written by the one worker that has picture i in this epoch.
  std::vector<std::shared_ptr<const Picture>> cache;
  std::atomic<int64_t> cached_bytes{0};

  // Of the current epoch; read by the workers, written only while there are none.
  int64_t epoch = -1, batches = 0;
  std::vector<int64_t> order;
  bool running = false, whole = false, any = false, too_small = false;

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
      Slot slot;
      try {
        make_batch(b, slot);
      } catch (...) {
        slot.error = std::current_exception();
      }
      lock.lock();
      slots[b] = std::move(slot);
      changed.notify_all();
    }
  }

  void make_batch(int64_t b, Slot& slot) {
    const int64_t from = b * options.batch_size,
                  to = std::min<int64_t>(from + options.batch_size, dataset.size());
    const int64_t side = options.size, pixels = side * side * 3;
    Batch batch{Tensor::empty({to - from, side, side, 3}), Tensor::empty({to - from}, DType::i64)};
    int64_t n = 0;
    for (int64_t position = from; position < to; ++position) {
      if (stopping()) return;
      const int64_t i = order[size_t(position)];
      if (!prepare(i, batch.images.data<float>() + n * pixels)) continue;
      batch.labels.data<int64_t>()[n++] = dataset.label(i);
    }
    slot.too_small = n > 0 && n < to - from && n < options.smallest_batch;
    if (n == 0 || slot.too_small) return;
    if (n < to - from) {
      Batch shorter{Tensor::empty({n, side, side, 3}), Tensor::empty({n}, DType::i64)};
      std::memcpy(shorter.images.raw(), batch.images.raw(), size_t(shorter.images.bytes()));
      std::memcpy(shorter.labels.raw(), batch.labels.raw(), size_t(shorter.labels.bytes()));
      batch = shorter;
    }
    slot.batch = std::move(batch);
  }

  // Decodes and transforms picture i; false where that is not possible.
  bool prepare(int64_t i, float* out) {
    std::shared_ptr<const Picture> picture = cache[size_t(i)];
    const Bytes encoded = picture ? nullptr : dataset.encoded(i);
    try {
      if (!picture) picture = decoded(i, encoded);
      const Image& image = picture->image;
      const ResizePlan plan = plan_picture(options, picture->size, {image.height, image.width}, epoch, i);
      prepare_picture(options, image, plan, epoch, i, out);
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

  std::shared_ptr<const Picture> decoded(int64_t i, const Bytes& encoded) {
    auto picture = std::make_shared<const Picture>(decode_picture(options, *encoded));
    const int64_t bytes = int64_t(picture->image.pixels.size());
    if (cached_bytes.fetch_add(bytes) + bytes <= options.cache_bytes)
      cache[size_t(i)] = picture;
    else
      cached_bytes.fetch_sub(bytes);
    return picture;
  }

  void warn() {
    std::map<int64_t, std::string> all;
    {
      const std::lock_guard lock(mutex);
      if (skipped.size() == warned) return;
      warned = skipped.size();
      all = skipped;
    }
    warn_of_skipped(options, dataset, all);
  }
};

ImageLoader::ImageLoader(ImageDataset dataset, LoaderOptions options) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.batches = check_options(options, dataset.size());
  s.cache.resize(size_t(dataset.size()));
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
  s.any = s.too_small = false;
  s.order = epoch_order(s.options, s.dataset.size(), epoch);
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
    s.too_small = s.too_small || slot.too_small;
    if (!slot.batch) continue;
    s.any = true;
    return std::move(slot.batch);
  }
  s.stop_workers();
  s.warn();
  if (s.any || !s.whole) return std::nullopt;
  check(!s.too_small, "data: no batch of ", s.dataset.split(), " has ", s.options.smallest_batch,
        " pictures that can be decoded");
  fail("data: none of the ", s.dataset.size(), " pictures of ", s.dataset.split(), " can be decoded");
}

void ImageLoader::tell_skipped() { state_->warn(); }

ImageLoader::Iterator ImageLoader::begin() {
  if (!state_->running) begin_epoch(state_->epoch + 1);
  return Iterator(this);
}

}  // namespace weft::data
