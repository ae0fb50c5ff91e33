// checkpoint.safetensors: all that an exact resume needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weft/apps/weft/config.h"
#include "weft/apps/weft/run_files.h"
#include "weft/engine/module.h"
#include "weft/optim/optimizer.h"

namespace weft::app {

/// Where a run stands between two steps.
struct RunState {
  int64_t epoch = 1;                           ///< the current one, from 1; epochs + 1 when all are done
  int64_t batch = 0;                           ///< batches of it that are done
  int64_t step = 0;                            ///< steps done since the start
  uint64_t random_seed = 0, random_count = 0;  ///< of the default generator

  // Sums over the current epoch's training so far.
  double loss_sum = 0;  ///< of the images' losses
  int64_t images = 0, correct = 0;
  double seconds = 0, lr = 0;
  int64_t skipped = 0;  ///< broken files met, so far

  // Over the whole run.
  double total_seconds = 0;  ///< with validation and saving
  double total_train_seconds = 0;
  int64_t total_images = 0;
  std::vector<EpochMetrics> metrics;  ///< of the epochs that are done
};

/// Writes model, optimizer, what scales the loss (empty for none) and state, atomically.
void save_checkpoint(const std::string& path, const TrainConfig& config,
                     const std::vector<std::string>& classes, const Module& model,
                     const optim::Optimizer& optimizer, const StateDict& scaling, const RunState& state);

/// Reads it into `model`, `optimizer` and `scaling`. Throws Error, naming the file, where it is missing,
/// damaged, no checkpoint of weft's, or one of a run with other settings or classes.
RunState load_checkpoint(const std::string& path, const TrainConfig& config,
                         const std::vector<std::string>& classes, Module& model, optim::Optimizer& optimizer,
                         StateDict& scaling);

}  // namespace weft::app
