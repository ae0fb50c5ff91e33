// A checkpoint of training: all that an exact resume needs, in one safetensors file.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "weft/engine/module.h"
#include "weft/optim/optimizer.h"
#include "weft/optim/training/train_step.h"

namespace weft::training {

/// What an epoch has come to. Means over samples; NaN where there is no such thing.
struct EpochResult {
  int64_t epoch = 0;                 ///< from 1
  double train_loss = 0;             ///< as optimised: with label smoothing, mixup and the like
  double valid_loss = 0;             ///< plain
  std::vector<double> metrics = {};  ///< of validation, in the order of the metrics
  double lr = 0;                     ///< of the epoch's last step
  double seconds = 0;                ///< of training alone, without validation and saving
  double samples_per_second = 0;     ///< training samples / seconds
};

/// Where training stands between two steps.
struct TrainingState {
  int64_t epoch = 1;                           ///< the current one, from 1; epochs + 1 when all are done
  int64_t batch = 0;                           ///< batches of it that are done
  int64_t step = 0;                            ///< steps done since the start
  uint64_t random_seed = 0, random_count = 0;  ///< of the default generator

  // Sums over the current epoch's training so far.
  double loss_sum = 0;               ///< of the samples' losses
  int64_t samples = 0, correct = 0;  ///< correct: see StepTotals
  double seconds = 0, lr = 0;
  int64_t skipped = 0;  ///< samples left out by the batches, so far

  // Over the whole training.
  double total_seconds = 0;  ///< with validation and saving
  double total_train_seconds = 0;
  int64_t total_samples = 0;
  std::vector<EpochResult> history;  ///< of the epochs that are done
};

/// String metadata of a file, by key.
using Metadata = std::map<std::string, std::string>;

/// Writes model, optimizer, what scales the loss (empty for none) and state, atomically, beside `metadata` of
/// one's own (any keys but "format" and "state").
void save_checkpoint(const std::string& path, const Module& module, const optim::Optimizer& optimizer,
                     const StateDict& scaling, const TrainingState& state, const Metadata& metadata = {});

/// Reads it into `module`, `optimizer` and `step`, for epochs of `batches` batches. `fits`, where given, sees
/// the metadata first and throws where the file is of some other training. Throws Error, naming the file, and
/// then changes nothing, where it is missing, damaged, no such checkpoint, or one of another model, optimizer
/// or number of batches.
TrainingState load_checkpoint(const std::string& path, Module& module, optim::Optimizer& optimizer,
                              TrainStep& step, int64_t batches,
                              const std::function<void(const Metadata&)>& fits = {});

}  // namespace weft::training
