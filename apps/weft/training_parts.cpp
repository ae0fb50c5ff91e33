#include "weft/apps/weft/training_parts.h"

#include <algorithm>

#include "weft/apps/weft/augmentation.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/memory.h"
#include "weft/apps/weft/names.h"
#include "weft/engine/random.h"
#include "weft/kernels/parallel.h"
#include "weft/optim/registry.h"

namespace weft::app {
namespace {

ModelInfo info_of(const TrainConfig& c, const DataSource& data) {
  return {.model = c.model,
          .activation = c.activation,
          .sa = c.sa,
          .sym = c.sym,
          .size = c.size,
          .valid_resize = c.valid_resize,
          .classes = data.train.classes(),
          .normalize = {},
          .recompute = c.recompute};
}

/// Preparing pictures costs a few percent of training on them; one thread in four keeps well ahead.
int loader_threads() { return std::clamp(num_threads() / 4, 1, 16); }

data::LoaderOptions loader_options(const TrainConfig& c, bool train, int64_t cache_bytes,
                                   Progress& progress) {
  data::LoaderOptions o;
  o.size = int(c.size);
  o.batch_size = int(c.batch_size);
  o.train = o.drop_last = train;
  if (train) set_augmentation(c, o);
  if (train) o.smallest_batch = 2;
  o.resize = int(c.valid_resize);
  o.seed = c.seed;
  o.threads = loader_threads();
  o.strict = c.strict;
  o.cache_bytes = cache_bytes;
  o.warn = [&progress](const std::string& text) {
    progress.clear();
    complain(text);
  };
  return o;
}

/// The model seeded by the run's seed. manual_seed comes before, so that all that is drawn later follows from
/// it too.
std::unique_ptr<Module> seeded_model(const TrainConfig& c, const ModelInfo& info, Device device,
                                     Progress& progress) {
  manual_seed(c.seed);
  auto model = build_model(info);
  if (!c.init.empty()) {
    const std::string random = joined(start_from(c.init, *model));
    progress.line("starts from the weights of " + c.init +
                  (random.empty() ? "" : "; of another shape, and so random: " + random));
  }
  model->to(device);
  return model;
}

data::BatchOptions batch_options(const TrainConfig& c, bool train, int64_t steps_per_epoch) {
  data::BatchOptions o;
  o.dtype = place_of(c.device, c.precision).dtype;
  o.fixed_buffers = true;
  if (train) set_mixing(c, steps_per_epoch, o);
  return o;
}

/// What one split may take of the cache; nothing where no picture is seen twice.
int64_t cache_share(const TrainConfig& c, const DataSource& data, int64_t images, int64_t cache_bytes) {
  if (c.epochs == 1) return 0;
  const int64_t bytes = cache_bytes < 0 ? default_cache_bytes() : cache_bytes;
  return int64_t(double(bytes) * double(images) / double(data.train.size() + data.val.size()));
}

std::unique_ptr<data::BatchLoader> make_loader(const TrainConfig& c, const DataSource& data, bool train,
                                               int64_t cache_bytes, Progress& progress) {
  const data::ImageDataset& set = train ? data.train : data.val;
  check(!train || c.batch_size <= set.size(), "--batch-size ", c.batch_size, ": the ", set.size(),
        " training images of ", c.data, " make no full batch of ", c.batch_size, "; give ", set.size(),
        " at most");
  return data::make_batches(
      set, loader_options(c, train, cache_share(c, data, set.size(), cache_bytes), progress),
      parse_device(c.device), batch_options(c, train, train ? data.train.size() / c.batch_size : 0));
}

}  // namespace

TrainingParts::TrainingParts(const TrainConfig& config, const DataSource& data, int64_t cache_bytes,
                             Progress& progress)
    : info(info_of(config, data)),
      device(parse_device(config.device)),
      train(make_loader(config, data, true, cache_bytes, progress)),
      val(make_loader(config, data, false, cache_bytes, progress)),
      model(seeded_model(config, info, device, progress)),
      optimizer(optim::make_optimizer(config.optimizer, optim::split_decay(model->parameters()),
                                      {.lr = config.lr,
                                       .mom = config.mom,
                                       .sqrmom = config.sqrmom,
                                       .eps = config.eps,
                                       .wd = config.wd})) {
  // Of the process, but set for each run: those of a study may differ in it.
  set_float32_matmul_precision(config.exact ? MatmulPrecision::highest
                                            : place_of(config.device, config.precision).products);
}

}  // namespace weft::app
