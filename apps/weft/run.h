// One training run, from a fresh start or from a checkpoint.
#pragma once

#include <functional>
#include <optional>

#include "weft/apps/weft/config.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/progress.h"
#include "weft/apps/weft/run_files.h"

namespace weft::app {

struct RunOptions {
  bool resume = false;           ///< go on from the folder's checkpoint, if there is one
  int64_t checkpoint_steps = 0;  ///< also save every so many steps; 0: only after each epoch
  int64_t cache_bytes = -1;      ///< for decoded pictures; negative: default_cache_bytes()
  /// Write RunFolder::events() too. A run that goes on does so wherever that is there.
  bool tensorboard = false;
  bool eager = false;      ///< on a GPU: start each piece of work by itself instead of whole captured steps
  bool trace_nan = false;  ///< name the op where the first value of a step that is not finite appears
  /// Called when a checkpoint was read that is of these settings and pictures.
  std::function<void()> after_match;
  /// Called once a first step was done, before the first file is written.
  std::function<void()> before_files;
  /// Called when all files of the run are written; not where it had ended before, and nothing is.
  std::function<void()> after_files;
  /// Called when a checkpoint was written.
  std::function<void()> after_checkpoint;
  int64_t stop_after_steps = 0;  ///< behave as if interrupted when so many steps are done in all; 0: never
};

/// Trains as `config` says, with its files in `folder`, and returns what summary.json holds. Nothing where it
/// was interrupted (Ctrl-C, SIGTERM): the checkpoint is written then. Throws training::DivergedError where
/// the loss is no longer finite; the last checkpoint stays as it was.
std::optional<nlohmann::json> train_run(const TrainConfig& config, const DataSource& data,
                                        const RunFolder& folder, const RunOptions& options,
                                        Progress& progress);

}  // namespace weft::app
