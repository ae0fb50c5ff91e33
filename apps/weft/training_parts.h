// What a run trains with, as its settings say: pictures, a model and an optimizer.
#pragma once

#include <cstdint>
#include <memory>

#include "weft/apps/weft/config.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/progress.h"
#include "weft/engine/data/batch_loader.h"
#include "weft/optim/optimizer.h"

namespace weft::app {

struct TrainingParts {
  /// Everything random follows from config.seed, with which it restarts the default generator. `cache_bytes`
  /// is for decoded pictures; negative: default_cache_bytes(). `data` and `progress` must outlive it. Tells
  /// what of the weights was taken from config.init.
  TrainingParts(const TrainConfig& config, const DataSource& data, int64_t cache_bytes, Progress& progress);

  const ModelInfo info;
  const Device device;
  const std::unique_ptr<data::BatchLoader> train, val;
  const std::unique_ptr<Module> model;  ///< on the device
  const std::unique_ptr<optim::Optimizer> optimizer;
};

}  // namespace weft::app
