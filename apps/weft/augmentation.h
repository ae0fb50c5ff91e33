// From the settings of a run to what its training loader does with pictures.
#pragma once

#include <string>

#include "weft/apps/weft/config.h"
#include "weft/engine/data/batch_loader.h"

namespace weft::app {

/// Reads the value of --jitter, "B,C,S,H" or nothing. Throws UsageError for anything else.
data::ColorJitter parse_jitter(const std::string& text);

/// What is done to single pictures.
void set_augmentation(const TrainConfig& config, data::LoaderOptions& options);
/// How pictures are mixed, a pure function of the seed and the place of the batch in the run.
void set_mixing(const TrainConfig& config, int64_t steps_per_epoch, data::BatchOptions& options);

}  // namespace weft::app
