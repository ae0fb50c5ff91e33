#include "weft/engine/data/resident.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "weft/engine/data/device_batch.h"
#include "weft/engine/data/preparation.h"
#include "weft/engine/error.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/augment.h"
#include "weft/kernels/parallel.h"

namespace weft::data {

namespace cuda = kernels::cuda;

namespace {

constexpr int64_t kGroup = int64_t{64} << 20;  // bytes of pictures that are decoded, then uploaded, together

// Where a picture lies, and its size in the file and as it was decoded.
struct Place {
  bool good = false;
  int64_t offset = 0;
  ImageSize full, decoded;

  int pitch() const { return (3 * decoded.width + 3) / 4 * 4; }
  // To the next multiple of 16, so that rows lie well for wide loads where their length allows it.
  int64_t bytes() const { return (int64_t(pitch()) * decoded.height + 15) / 16 * 16; }
};

// What a step uploads for a batch of n: descriptors, indices of pictures, how they are mixed and retouched.
struct StepLayout {
  int64_t index, mix, retouch, bytes;
  explicit StepLayout(int64_t n)
      : index(n * int64_t(sizeof(cuda::PictureView))),
        mix(index + n * int64_t(sizeof(int64_t))),
        retouch(mix + n * int64_t(sizeof(cuda::MixView))),
        bytes(retouch + n * int64_t(sizeof(kernels::Retouch))) {}
};

template <class T>
void put(char* to, int64_t i, const T& value) {
  std::memcpy(to + i * int64_t(sizeof value), &value, sizeof value);
}

cuda::ResizeAxis axis_of(const ResizeRange& range) {
  cuda::ResizeAxis axis;
  axis.start = range.start;
  axis.scale = range.length / range.total;
  axis.from = range.from;
  axis.low = int32_t(std::floor(range.start));
  axis.high = int32_t(std::ceil(range.start + range.length));
  return axis;
}

}  // namespace

struct ResidentLoader::State {
  ImageDataset dataset;
  LoaderOptions options;
  BatchOptions gpu;
  int64_t batches = 0, bytes = 0;
  bool fits = false;
  std::vector<Place> places;
  std::map<int64_t, std::string> skipped;  // reason by index of the picture
  std::mutex skipping;
  Tensor pixels, labels, descriptors;
  // f32 [batch_size, size, size, 3]: where batches are not made in one go; and before padding.
  Tensor stage, whole;
  DeviceBatch fixed;

  int64_t epoch = -1, given = 0;
  std::vector<int64_t> order;
  bool running = false;

  // Calls body(); where that throws because of picture i, leaves the picture out.
  template <class Body>
  void attempt(int64_t i, Body&& body) {
    try {
      body();
    } catch (const OutOfMemoryError&) {
      throw;
    } catch (const Error& e) {
      check(!options.strict, "data: ", dataset.name(i), " cannot be decoded: ", e.what());
      places[size_t(i)].good = false;
      const std::lock_guard lock(skipping);
      skipped[i] = e.what();
    }
  }

  // Reads the sizes of all pictures, and gives them their places; stops where they are too many.
  bool measure(int64_t limit) {
    constexpr int64_t step = 1024;
    places.resize(size_t(dataset.size()));
    bytes = 0;
    for (int64_t begin = 0; begin < dataset.size(); begin += step) {
      const int64_t end = std::min(begin + step, dataset.size());
      kernels::parallel_for(end - begin, [&](int64_t k) {
        const int64_t i = begin + k;
        const Bytes encoded = dataset.encoded(i);
        attempt(i, [&] {
          Place& place = places[size_t(i)];
          const auto [full, decoded] = picture_sizes(options, *encoded);
          plan_picture(options, full, decoded, 0, i);  // some can't be cropped
          place.full = full, place.decoded = decoded, place.good = true;
        });
      });
      for (int64_t i = begin; i < end; ++i) {
        Place& place = places[size_t(i)];
        place.offset = bytes;
        if (place.good) bytes += place.bytes();
      }
      if (bytes > limit) return false;
    }
    return true;
  }

  void load() {
    pixels = Tensor::empty({std::max<int64_t>(bytes, 4)}, DType::u8, Device::cuda);
    std::vector<uint8_t> group;
    for (int64_t begin = 0; begin < dataset.size();) {
      const int64_t start = places[size_t(begin)].offset;
      int64_t end = begin, stop = start;
      do {
        if (places[size_t(end)].good) stop = places[size_t(end)].offset + places[size_t(end)].bytes();
        ++end;
      } while (end < dataset.size() && stop - start < kGroup);
      group.assign(size_t(stop - start), 0);
      kernels::parallel_for(end - begin, [&](int64_t k) { decode(begin + k, group.data() - start); });
      if (!group.empty()) cuda::upload(pixels.data<uint8_t>() + start, group.data(), int64_t(group.size()));
      begin = end;
    }
    const bool any = std::any_of(places.begin(), places.end(), [](const Place& p) { return p.good; });
    check(any, "data: none of the ", dataset.size(), " pictures of ", dataset.split(), " can be decoded");
    if (!skipped.empty()) warn_of_skipped(options, dataset, skipped);

    std::vector<int64_t> all;
    for (int64_t i = 0; i < dataset.size(); ++i) all.push_back(dataset.label(i));
    labels = Tensor::from(all, {dataset.size()}).to(Device::cuda);
    const StepLayout layout(options.batch_size);
    descriptors = Tensor::empty({layout.bytes}, DType::u8, Device::cuda);
    if (retouches(options) || gpu.cutmix)
      stage = Tensor::empty({options.batch_size, options.size, options.size, 3}, DType::f32, Device::cuda);
    if (stage.defined() && options.train && options.pad.padding > 0)
      whole = Tensor::empty(stage.shape(), DType::f32, Device::cuda);
    if (gpu.fixed_buffers) fixed = empty_batch(options, gpu, classes(), options.batch_size);
  }

  void decode(int64_t i, uint8_t* to) {
    const Place& place = places[size_t(i)];
    if (!place.good) return;
    const Bytes encoded = dataset.encoded(i);
    attempt(i, [&] {
      const Image image = decode_picture(options, *encoded).image;
      check(image.height == place.decoded.height && image.width == place.decoded.width, "image: decoded to ",
            image.width, " x ", image.height, " pixels, but its header promises ", place.decoded.width, " x ",
            place.decoded.height);
      for (int y = 0; y < image.height; ++y)
        std::memcpy(to + place.offset + int64_t(y) * place.pitch(), image.at(y, 0), size_t(image.width) * 3);
    });
  }

  int64_t classes() const { return int64_t(dataset.classes().size()); }

  // The pictures of a batch, without those that were left out; none of a batch that is passed over.
  std::vector<int64_t> pictures(int64_t batch) const {
    const int64_t from = batch * options.batch_size,
                  to = std::min<int64_t>(from + options.batch_size, dataset.size());
    std::vector<int64_t> list;
    for (int64_t p = from; p < to; ++p)
      if (places[size_t(order[size_t(p)])].good) list.push_back(order[size_t(p)]);
    const auto n = int64_t(list.size());
    if (n < to - from && n < options.smallest_batch) list.clear();
    return list;
  }

  // The pictures of the next batch that has any; `given` comes to stand on it. Empty at the end of the epoch.
  std::vector<int64_t> next_pictures() {
    for (; given < batches; ++given)
      if (std::vector<int64_t> list = pictures(given); !list.empty()) return list;
    return {};
  }

  // Writes the descriptors of the next batch, which must have n pictures, and takes it as given out.
  void describe_next(void* staging, int64_t n) {
    check(running, "loader: no epoch is begun, call begin_epoch first");
    const std::vector<int64_t> list = next_pictures();
    check(int64_t(list.size()) == n, "loader: the next batch has ", list.size(), " pictures, but a step for ",
          n, " was launched; ask next_size()");
    const StepLayout layout(n);
    char* to = static_cast<char*>(staging);
    for (int64_t k = 0; k < n; ++k) {
      const int64_t i = list[size_t(k)];
      const Place& place = places[size_t(i)];
      const ResizePlan plan = plan_picture(options, place.full, place.decoded, epoch, i);
      cuda::PictureView view;
      view.offset = place.offset;
      view.pitch = place.pitch();
      view.flip = plan.flip;
      view.rows = axis_of(plan.rows);
      view.columns = axis_of(plan.columns);
      put(to, k, view);
      put(to + layout.index, k, i);
      if (retouches(options)) put(to + layout.retouch, k, plan_retouch(options, epoch, i));
    }
    if (gpu.mixup) {
      const std::vector<Mix> mix = decide_mix(gpu, epoch, given, n, options.size);
      for (int64_t k = 0; k < n; ++k) put(to + layout.mix, k, view_of(mix[size_t(k)]));
    }
    ++given;
  }

  // The crops alone, then padding, then what is done to each picture, then how they are mixed.
  void make_in_stages(cuda::AugmentArgs args, const cuda::PictureView* views, const kernels::Retouch* retouch,
                      const Tensor& images) {
    const cuda::MixView* mix = std::exchange(args.mix, nullptr);
    const int channels = std::exchange(args.channels, 3);
    float* x = stage.data<float>();
    const bool recolours = options.train && (options.jitter.any() || options.erasing.p > 0);
    cuda::RetouchArgs finish;
    finish.n = args.n, finish.size = args.size;
    const std::array<float, 3> fill = erased_color(options);
    for (size_t c = 0; recolours && c < 3; ++c) {
      finish.scale[c] = 255 * args.scale[c], finish.shift[c] = args.shift[c], finish.fill[c] = fill[c];
      args.scale[c] = 1.0f / 255, args.shift[c] = 0;
    }
    cuda::augment(args, views, pixels.data<uint8_t>(), whole.defined() ? whole.data<float>() : x);
    if (whole.defined()) {
      const cuda::PaddedCropArgs pad{args.n, args.size, {args.shift[0], args.shift[1], args.shift[2]}};
      cuda::padded_crop(pad, retouch, whole.data<float>(), x);
    }
    if (recolours) cuda::retouch(finish, retouch, x);
    const int64_t area = int64_t{args.size} * args.size;
    with_images(images, [&](auto* out) {
      if (channels == 3)
        cuda::mixup(args.n, area * 3, mix, x, out);
      else
        cuda::mixup_padded(args.n, area, channels, mix, x, out);
    });
  }

  // Starts, or records, the work that makes the next batch.
  static void make(const std::shared_ptr<State>& s, int64_t n, const DeviceBatch& batch) {
    const StepLayout layout(n);
    uint8_t* base = s->descriptors.data<uint8_t>();
    cuda::upload_each_step(base, layout.bytes, [s, n](void* staging) { s->describe_next(staging, n); });
    const auto* views = reinterpret_cast<const cuda::PictureView*>(base);
    const auto* index = reinterpret_cast<const int64_t*>(base + layout.index);
    const auto* mix = s->gpu.mixup ? reinterpret_cast<const cuda::MixView*>(base + layout.mix) : nullptr;
    cuda::AugmentArgs args;
    args.n = n, args.size = s->options.size, args.channels = s->gpu.channels, args.mix = mix;
    const auto& [mean, std] = s->options.normalize;
    for (size_t c = 0; c < 3; ++c) args.scale[c] = 1 / (255 * std[c]), args.shift[c] = -mean[c] / std[c];
    if (s->stage.defined())
      s->make_in_stages(args, views, reinterpret_cast<const kernels::Retouch*>(base + layout.retouch),
                        batch.x);
    else
      with_images(batch.x, [&](auto* out) { cuda::augment(args, views, s->pixels.data<uint8_t>(), out); });
    cuda::gather_labels(n, s->labels.data<int64_t>(), index, batch.y.data<int64_t>());
    if (mix) cuda::mix_targets(n, s->classes(), mix, batch.y.data<int64_t>(), batch.targets.data<float>());
  }
};

ResidentLoader::ResidentLoader(ImageDataset dataset, LoaderOptions options, BatchOptions gpu)
    : state_(std::make_shared<State>()) {
  State& s = *state_;
  s.batches = check_options(options, dataset.size());
  check_options(gpu);
  s.dataset = std::move(dataset);
  s.options = std::move(options);
  s.gpu = std::move(gpu);
  s.fits = s.measure(s.gpu.resident_bytes < 0 ? cuda::free_memory() / 2 : s.gpu.resident_bytes);
  if (s.fits) s.load();
}

ResidentLoader::~ResidentLoader() = default;

bool ResidentLoader::fits() const { return state_->fits; }
int64_t ResidentLoader::resident_bytes() const { return state_->fits ? state_->bytes : 0; }
int64_t ResidentLoader::batches() const { return state_->batches; }
const ImageDataset& ResidentLoader::dataset() const { return state_->dataset; }
const LoaderOptions& ResidentLoader::options() const { return state_->options; }
bool ResidentLoader::fixed_buffers() const { return state_->gpu.fixed_buffers; }
int64_t ResidentLoader::position() const { return state_->given; }
int64_t ResidentLoader::epoch() const { return state_->epoch; }

std::vector<Skipped> ResidentLoader::skipped() const {
  std::vector<Skipped> list;
  for (const auto& [i, reason] : state_->skipped) list.push_back({state_->dataset.name(i), reason});
  return list;
}

void ResidentLoader::begin_epoch(int64_t epoch, int64_t first_batch) {
  State& s = *state_;
  check(s.fits, "loader: the pictures of ", s.dataset.split(),
        " do not fit into the memory they may take of the GPU; use UploadingLoader");
  check(epoch >= 0, "loader: epoch is ", epoch, ", but counts from 0");
  check(first_batch >= 0 && first_batch <= s.batches, "loader: first_batch is ", first_batch,
        ", but an epoch has ", s.batches, " batches");
  s.epoch = epoch;
  s.given = first_batch;
  s.order = epoch_order(s.options, s.dataset.size(), epoch);
  s.running = true;
}

std::optional<DeviceBatch> ResidentLoader::next() {
  State& s = *state_;
  const int64_t full = s.options.batch_size;
  if (cuda::capturing()) {
    check(s.gpu.fixed_buffers && s.fits,
          "loader: a batch can be asked for within a capture only with fixed_buffers");
    State::make(state_, full, s.fixed);
    return s.fixed;
  }
  check(s.running, "loader: no epoch is begun, call begin_epoch first");
  const int64_t n = next_size();
  if (n == 0) {
    s.running = false;
    return std::nullopt;
  }
  const DeviceBatch batch =
      n == full && s.gpu.fixed_buffers ? s.fixed : empty_batch(s.options, s.gpu, s.classes(), n);
  State::make(state_, n, batch);
  return batch;
}

int64_t ResidentLoader::next_size() { return state_->running ? int64_t(state_->next_pictures().size()) : 0; }

void ResidentLoader::feed() {
  const int64_t n = next_size();
  check(n == state_->options.batch_size, "loader: the next batch has ", n,
        " pictures, and cannot be fed to a step captured for ", state_->options.batch_size);
}

}  // namespace weft::data
