#include "weft/apps/weft/data_source.h"

#include <fmt/core.h>

#include <filesystem>

#include "weft/apps/weft/cache.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/fetch.h"
#include "weft/apps/weft/version.h"
#include "weft/engine/data/sample.h"
#include "weft/engine/error.h"
#include "weft/kernels/fnv.h"

namespace weft::app {

namespace fs = std::filesystem;

namespace {

std::string cached_sample(Progress& progress) {
  // The version is in the name, because another one may draw other pictures.
  const fs::path folder = cache_folder() / fmt::format("sample-{}", kVersion);
  if (fs::is_directory(folder)) return folder.string();
  progress.line("drawing the sample set into " + folder.string());
  std::error_code error;
  fs::create_directories(folder.parent_path(), error);
  check(!error, "cannot make the folder ", folder.parent_path().string(), ": ", error.message(),
        "; set XDG_CACHE_HOME to one that can be written");
  try {
    data::make_sample_dataset(folder.string());
  } catch (const Error&) {
    if (!fs::is_directory(folder)) throw;  // else another process was faster
  }
  return folder.string();
}

}  // namespace

std::string resolve_data(const std::string& value, Progress& progress) {
  if (value == kSampleData) return cached_sample(progress);
  std::error_code error;
  if (fs::exists(value, error)) return value;
  if (const KnownSet* set = find_known_set(value)) {
    const fs::path archive = cache_folder() / set->file_name();
    check(fs::exists(archive), "--data ", value, ": not fetched yet (", archive.string(),
          " is not there); run weft data fetch ", value);
    return archive.string();
  }
  return value;  // the reader says best what is wrong with it
}

void check_not_moved(const std::string& value, const std::string& whose) {
  std::error_code error;
  check(value == kSampleData || find_known_set(value) || fs::exists(value, error), "the data of ", whose,
        ", ", value, ", are not there; say with --data where they are now");
}

DataSource open_training_data(const TrainConfig& config, Progress& progress) {
  DataSource source;
  std::tie(source.train, source.val) = data::ImageDataset::open_splits(resolve_data(config.data, progress));
  if (!config.noisy_labels.empty()) source.relabelled = source.train.use_labels(config.noisy_labels);
  return source;
}

std::string fingerprint(const DataSource& data) {
  uint64_t hash = fnv1a("");
  for (const data::ImageDataset* set : {&data.train, &data.val})
    for (int64_t i = 0; i < set->size(); ++i)
      hash = fnv1a(set->name(i) + '\n' + std::to_string(set->label(i)) + '\n', hash);
  return fmt::format("{} training and {} validation images ({:016x})", data.train.size(), data.val.size(),
                     hash);
}

}  // namespace weft::app
