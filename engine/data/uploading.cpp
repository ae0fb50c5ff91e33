#include "weft/engine/data/uploading.h"

#include <cstring>
#include <exception>

#include "weft/engine/data/device_batch.h"
#include "weft/engine/error.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/augment.h"
#include "weft/kernels/cuda/uploader.h"

namespace weft::data {

namespace cuda = kernels::cuda;

namespace {

// What is uploaded for a batch of up to n pictures of `pixels` pixels.
struct BatchLayout {
  int64_t mix, images, bytes;
  BatchLayout(int64_t n, int64_t pixels)
      : mix(n * int64_t(sizeof(int64_t))),
        images((mix + n * int64_t(sizeof(cuda::MixView)) + 255) / 256 * 256),
        bytes(images + n * pixels * 3 * int64_t(sizeof(float))) {}
};

}  // namespace

struct UploadingLoader::State {
  ImageLoader loader;
  BatchOptions gpu;
  BatchLayout layout;
  cuda::Uploader uploader;
  DeviceBatch fixed;

  bool running = false;
  int64_t given = 0;  // position after the batch given out last
  // What the loader gave after that: a batch on its way, its end or an error.
  int64_t coming = 0, coming_position = 0;  // pictures of the batch, 0 where there is none
  bool ended = false;
  std::exception_ptr error;

  State(ImageDataset dataset, LoaderOptions options, BatchOptions gpu_options)
      : loader(std::move(dataset), std::move(options)),
        gpu((check_options(gpu_options), std::move(gpu_options))),
        layout(loader.options().batch_size, pixels()),
        uploader(layout.bytes) {
    if (gpu.fixed_buffers) fixed = empty_batch(loader.options(), gpu, classes(), loader.options().batch_size);
  }

  int64_t pixels() const { return int64_t(loader.options().size) * loader.options().size; }
  int64_t classes() const { return int64_t(loader.dataset().classes().size()); }

  // Forgets the batch on its way.
  void drop() {
    if (coming > 0) uploader.receive(), uploader.done();
    coming = 0;
    ended = false;
    error = nullptr;
  }

  // Sends the next batch on its way, unless one is.
  void fetch() {
    if (!running || coming > 0 || ended || error) return;
    try {
      const std::optional<Batch> batch = loader.next();
      if (!batch) {
        ended = true;
        return;
      }
      const int64_t n = batch->labels.numel(), position = loader.position();
      char* to = static_cast<char*>(uploader.staging());
      std::memcpy(to, batch->labels.raw(), size_t(batch->labels.bytes()));
      if (gpu.mixup) {
        char* mix = to + layout.mix;
        for (const Mix& m : decide_mix(gpu, loader.epoch(), position - 1, n, loader.options().size)) {
          const cuda::MixView view = view_of(m);
          std::memcpy(mix, &view, sizeof view);
          mix += sizeof view;
        }
      }
      std::memcpy(to + layout.images, batch->images.raw(), size_t(batch->images.bytes()));
      uploader.start(layout.images + batch->images.bytes());
      coming = n, coming_position = position;
    } catch (...) {
      error = std::current_exception();  // the batch before is still to be given out
    }
  }

  // Makes the batch that was on its way.
  void receive(const DeviceBatch& batch) {
    const int64_t n = coming;
    const char* from = static_cast<const char*>(uploader.receive());
    const auto* mix = gpu.mixup ? reinterpret_cast<const cuda::MixView*>(from + layout.mix) : nullptr;
    const auto* images = reinterpret_cast<const float*>(from + layout.images);
    with_images(batch.x, [&](auto* out) {
      if (gpu.channels == 3)
        cuda::mixup(n, pixels() * 3, mix, images, out);
      else
        cuda::mixup_padded(n, pixels(), gpu.channels, mix, images, out);
    });
    cuda::copy(batch.y.raw(), from, batch.y.bytes());
    if (mix) cuda::mix_targets(n, classes(), mix, batch.y.data<int64_t>(), batch.targets.data<float>());
    uploader.done();
    coming = 0;
    given = coming_position;
  }
};

UploadingLoader::UploadingLoader(ImageDataset dataset, LoaderOptions options, BatchOptions gpu)
    : state_(std::make_unique<State>(std::move(dataset), std::move(options), std::move(gpu))) {}
UploadingLoader::~UploadingLoader() = default;

int64_t UploadingLoader::batches() const { return state_->loader.batches(); }
const ImageDataset& UploadingLoader::dataset() const { return state_->loader.dataset(); }
const LoaderOptions& UploadingLoader::options() const { return state_->loader.options(); }
bool UploadingLoader::fixed_buffers() const { return state_->gpu.fixed_buffers; }
int64_t UploadingLoader::position() const { return state_->given; }
int64_t UploadingLoader::epoch() const { return state_->loader.epoch(); }
std::vector<Skipped> UploadingLoader::skipped() const { return state_->loader.skipped(); }
void UploadingLoader::tell_skipped() { state_->loader.tell_skipped(); }

void UploadingLoader::begin_epoch(int64_t epoch, int64_t first_batch) {
  State& s = *state_;
  s.loader.begin_epoch(epoch, first_batch);
  s.drop();
  s.given = first_batch;
  s.running = true;
}

std::optional<DeviceBatch> UploadingLoader::next() {
  State& s = *state_;
  if (cuda::capturing()) {
    check(s.gpu.fixed_buffers, "loader: a batch can be asked for within a capture only with fixed_buffers");
    return s.fixed;
  }
  check(s.running, "loader: no epoch is begun, call begin_epoch first");
  s.fetch();
  if (s.coming == 0) {
    s.running = false;
    if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
    s.given = s.loader.position();
    return std::nullopt;
  }
  const int64_t n = s.coming;
  const DeviceBatch batch = n == s.loader.options().batch_size && s.gpu.fixed_buffers
                                ? s.fixed
                                : empty_batch(s.loader.options(), s.gpu, s.classes(), n);
  s.receive(batch);
  s.fetch();
  return batch;
}

int64_t UploadingLoader::next_size() {
  state_->fetch();
  return state_->coming;
}

void UploadingLoader::feed() {
  State& s = *state_;
  s.fetch();
  check(s.gpu.fixed_buffers && s.coming == s.loader.options().batch_size, "loader: the next batch has ",
        s.coming, " pictures, and cannot be fed to a step captured for ", s.loader.options().batch_size);
  s.receive(s.fixed);
  s.fetch();
}

}  // namespace weft::data
