// weft bench loader: how fast training batches come when nothing else is done, decoded and from the cache,
// and what each stage of a picture costs.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/memory.h"
#include "weft/engine/data/loader.h"
#include "weft/kernels/parallel.h"

namespace weft::app {
namespace {

struct Rate {
  int64_t images = 0;
  double seconds = 0;
  double per_second() const { return double(images) / seconds; }
};

Rate measure_batches(data::ImageLoader& loader, int64_t steps) {
  // One batch first: threads start and the first files come from disk.
  int64_t epoch = 0;
  loader.begin_epoch(epoch);
  loader.next();
  Rate rate;
  rate.seconds = time_calls(
      [&] {
        for (int64_t batches = 0; batches < steps;) {
          if (const auto batch = loader.next())
            rate.images += batch->labels.numel(), ++batches;
          else
            loader.begin_epoch(++epoch);
        }
      },
      1, 0)[0];
  return rate;
}

/// Milliseconds that one thread spends on a picture, stage by stage; means over a sample of them.
struct Stages {
  double read = 0, decode = 0, resize = 0;
};

Stages measure_stages(const data::ImageDataset& set, const data::LoaderOptions& o) {
  const int64_t count = std::min<int64_t>(set.size(), 500);
  std::vector<float> out(size_t(o.size) * size_t(o.size) * 3);
  Stages stages;
  const auto timed = [&](double& sum, auto&& work) {
    const auto start = std::chrono::steady_clock::now();
    auto result = work();
    sum += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() /
           double(count);
    return result;
  };
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = k * set.size() / count;
    const data::Bytes encoded = timed(stages.read, [&] { return set.encoded(i); });
    data::Image image;
    try {
      image = timed(stages.decode, [&] { return data::decode_image(*encoded); });
    } catch (const Error&) {
      continue;  // the loader has warned of it
    }
    timed(stages.resize, [&] {
      const data::Crop crop =
          data::random_resized_crop({image.height, image.width}, o.min_scale, o.seed, 0, i);
      data::resize_crop(image, crop.box, o.size, o.size, crop.flip, o.normalize, out.data());
      return true;
    });
  }
  return stages;
}

}  // namespace

int bench_loader(const BenchFlags& flags) {
  if (flags.place.gpu()) return bench_loader_gpu(flags);
  Progress progress(flags.json ? Output::json : Output::human);
  const std::string path = resolve_data(flags.data.empty() ? kSampleData : flags.data, progress);
  const data::ImageDataset set = data::ImageDataset::open(path, "train");
  data::LoaderOptions o;
  o.size = int(flags.size);
  o.batch_size = int(flags.batch_size);
  o.threads = std::min(num_threads(), 256);
  o.drop_last = true;
  o.warn = complain;
  data::ImageLoader loader(set, o);
  const Rate decoded = measure_batches(loader, flags.steps);

  // A whole epoch fills the cache.
  o.cache_bytes = default_cache_bytes();
  data::ImageLoader caching(set, o);
  for (const auto& batch : caching) (void)batch;
  const Rate cached = measure_batches(caching, flags.steps);
  const Stages stages = measure_stages(set, o);
  if (flags.json)
    fmt::print("{}\n", one_line({{"bench", "loader"},
                                 {"data", path},
                                 {"size", flags.size},
                                 {"batch_size", flags.batch_size},
                                 {"threads", num_threads()},
                                 {"images", decoded.images},
                                 {"seconds", decoded.seconds},
                                 {"images_per_second", decoded.per_second()},
                                 {"cached_images_per_second", cached.per_second()},
                                 {"cache_bytes", o.cache_bytes},
                                 {"read_ms", stages.read},
                                 {"decode_ms", stages.decode},
                                 {"resize_ms", stages.resize}}));
  else
    fmt::print(
        "{} training images of {} at {} px on {} threads: {:.0f} images/s, {:.0f} images/s from the cache of "
        "decoded images\n"
        "an image on one thread: read {:.3f} ms, decode {:.3f} ms, crop, resize and normalise {:.3f} ms\n",
        decoded.images, path, flags.size, num_threads(), decoded.per_second(), cached.per_second(),
        stages.read, stages.decode, stages.resize);
  return kDone;
}

}  // namespace weft::app
