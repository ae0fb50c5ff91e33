// From the value of --data to pictures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weft/apps/weft/config.h"
#include "weft/apps/weft/progress.h"
#include "weft/engine/data/dataset.h"

namespace weft::app {

/// Both splits of a data set.
struct DataSource {
  data::ImageDataset train, val;
  int64_t relabelled = 0;  ///< training labels that --noisy-labels changed
};

/// Numbers of pictures, and a hash of their names and labels.
std::string fingerprint(const DataSource& data);

/// A folder or archive on disk for the value of --data: the sample set is drawn into the cache folder the
/// first time, the name of a known set stands for its fetched archive, anything else is a path.
std::string resolve_data(const std::string& data, Progress& progress);

/// Throws Error where `value`, which the settings of `whose` name and nobody has typed, names no data now.
void check_not_moved(const std::string& value, const std::string& whose);

/// What of the class folders is left out: files in them that are no pictures by name.
int64_t ignored_files(const DataSource& data);

/// Warns of files in the class folders of `sets`, from `path`, that are left out, and of class folders
/// without a picture; nothing is said where there are none. Throws Error instead where `strict`.
void tell_ignored(const std::string& path, const std::vector<const data::ImageDataset*>& sets, bool strict,
                  Progress& progress);

/// Opens what `config` trains on, and tells what of it is ignored.
DataSource open_training_data(const TrainConfig& config, Progress& progress);

}  // namespace weft::app
