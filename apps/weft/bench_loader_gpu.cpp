// weft bench loader --device cuda: how fast training batches come when nothing else is done: from pictures
// that lie in the GPU's memory, and made by the CPU and uploaded.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench_gpu.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/memory.h"
#include "weft/engine/data/resident.h"
#include "weft/engine/data/uploading.h"
#include "weft/kernels/parallel.h"

namespace weft::app {
namespace {

namespace cuda = kernels::cuda;

struct GpuRate {
  int64_t batches = 0, images = 0;
  double seconds = 0;
  double batches_per_second() const { return double(batches) / seconds; }
  double images_per_second() const { return double(images) / seconds; }
};

GpuRate measure_batches(data::BatchLoader& loader, int64_t steps, bool capture) {
  const MemoryPool pool(Device::cuda);
  const MemoryPool::Use use(pool);
  int64_t epoch = 0;
  std::unique_ptr<cuda::Graph> graph;
  GpuRate rate;
  const auto batch = [&] {
    while (loader.next_size() == 0) loader.begin_epoch(epoch++);
    ++rate.batches, rate.images += loader.next_size();
    if (graph && loader.next_size() == loader.options().batch_size)
      loader.feed(), graph->launch();
    else
      (void)loader.next();
  };
  batch();  // threads start, and the first files come from disk
  if (capture) graph = cuda::capture([&] { (void)loader.next(); });
  batch();
  rate = {};
  cuda::Timer timer;
  timer.mark();
  for (int64_t i = 0; i < steps; ++i) batch();
  timer.mark();
  rate.seconds = timer.seconds().front();
  return rate;
}

}  // namespace

int bench_loader_gpu(const BenchFlags& flags) {
  Progress progress(flags.json ? Output::json : Output::human);
  const std::string path = resolve_data(flags.data.empty() ? kSampleData : flags.data, progress);
  const data::ImageDataset set = data::ImageDataset::open(path, "train");
  data::LoaderOptions o;
  o.size = int(flags.size);
  o.batch_size = int(flags.batch_size);
  o.threads = std::min(num_threads(), 256);
  o.drop_last = true;
  o.warn = complain;
  data::BatchOptions gpu;
  gpu.dtype = flags.place.dtype;
  gpu.fixed_buffers = true;

  std::unique_ptr<data::ResidentLoader> resident;
  const double decode_seconds =
      time_calls([&] { resident = std::make_unique<data::ResidentLoader>(set, o, gpu); }, 1, 0).front();
  nlohmann::json row = gpu_fields(flags);
  row.update({{"bench", "loader"},
              {"data", path},
              {"size", flags.size},
              {"batch_size", flags.batch_size},
              {"threads", num_threads()},
              {"pictures", set.size()},
              {"resident_bytes", resident->resident_bytes()},
              {"decode_seconds", decode_seconds}});
  std::string text = "the pictures don't fit into half of the GPU's free memory";
  if (resident->fits()) {
    const GpuRate rate = measure_batches(*resident, flags.steps, flags.place.capture);
    row.update({{"images", rate.images},
                {"seconds", rate.seconds},
                {"batches_per_second", rate.batches_per_second()},
                {"images_per_second", rate.images_per_second()}});
    text = fmt::format(
        "{:.0f} batches/s, {:.0f} images/s from {:.0f} MB in the GPU's memory, decoded in {:.1f} s",
        rate.batches_per_second(), rate.images_per_second(), double(resident->resident_bytes()) * 1e-6,
        decode_seconds);
  }
  resident.reset();

  o.cache_bytes = default_cache_bytes();
  data::UploadingLoader uploading(set, o, gpu);
  uploading.begin_epoch(0);  // a whole one fills the cache
  while (uploading.next()) {
  }
  // What it does lies in front of a captured step, and not in it.
  const double uploaded = measure_batches(uploading, flags.steps, false).images_per_second();
  row["uploading_images_per_second"] = uploaded;
  row["cache_bytes"] = o.cache_bytes;
  if (flags.json)
    fmt::print("{}\n", one_line(row));
  else
    fmt::print(
        "{} training images of {} at {} px, {} on {}\n{}\n{:.0f} images/s uploaded, from the cache of "
        "decoded images on {} threads\n",
        set.size(), path, flags.size, flags.precision, cuda::device_info().name, text, uploaded,
        num_threads());
  return kDone;
}

}  // namespace weft::app
