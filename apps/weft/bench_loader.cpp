// weft bench loader: how fast training batches come when nothing else is done.
#include <fmt/core.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/data_source.h"
#include "weft/engine/data/loader.h"
#include "weft/kernels/parallel.h"

namespace weft::app {

int bench_loader(const BenchFlags& flags) {
  Progress progress(flags.json ? Output::json : Output::human);
  const std::string path = resolve_data(flags.data.empty() ? kSampleData : flags.data, progress);
  data::LoaderOptions o;
  o.size = int(flags.size);
  o.batch_size = int(flags.batch_size);
  o.threads = num_threads();
  o.drop_last = true;
  data::ImageLoader loader(data::ImageDataset::open(path, "train"), o);
  // One batch first: threads start and the first files come from disk.
  int64_t images = 0, batches = 0, epoch = 0;
  loader.begin_epoch(epoch);
  loader.next();
  const auto start = std::chrono::steady_clock::now();
  while (batches < flags.steps) {
    if (const auto batch = loader.next())
      images += batch->labels.numel(), ++batches;
    else
      loader.begin_epoch(++epoch);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double rate = double(images) / seconds;
  if (flags.json)
    fmt::print("{}\n", nlohmann::json{{"bench", "loader"},
                                      {"data", path},
                                      {"size", flags.size},
                                      {"batch_size", flags.batch_size},
                                      {"threads", num_threads()},
                                      {"images", images},
                                      {"seconds", seconds},
                                      {"images_per_second", rate}}
                           .dump());
  else
    fmt::print("{} training images of {} at {} px on {} threads: {:.0f} images/s\n", images, path, flags.size,
               num_threads(), rate);
  return kDone;
}

}  // namespace weft::app
