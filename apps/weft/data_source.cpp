#include "weft/apps/weft/data_source.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
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

/// "a, b, c, ..." of at most three.
std::string first_of(const std::vector<std::string>& names) {
  constexpr size_t kNamed = 3;
  std::vector<std::string> some(names.begin(),
                                names.begin() + std::ptrdiff_t(std::min(names.size(), kNamed)));
  if (names.size() > kNamed) some.push_back("...");
  return joined(some);
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

int64_t ignored_files(const DataSource& data) {
  return int64_t(data.train.ignored_in_classes().size() + data.val.ignored_in_classes().size());
}

void tell_ignored(const std::string& path, const std::vector<const data::ImageDataset*>& sets, bool strict,
                  Progress& progress) {
  std::vector<std::string> files, folders;
  for (const data::ImageDataset* set : sets) {
    files.insert(files.end(), set->ignored_in_classes().begin(), set->ignored_in_classes().end());
    folders.insert(folders.end(), set->empty_classes().begin(), set->empty_classes().end());
  }
  std::string text;
  if (!files.empty())
    text = concat(count_of(int64_t(files.size()), "file"), " in class folders of ", path,
                  files.size() == 1 ? " is" : " are",
                  " left out, not being named .jpg, .jpeg or .png: ", first_of(files));
  if (!folders.empty())
    text += concat(text.empty() ? path + ": " : "; ", folders.size(), " class ",
                   folders.size() == 1 ? "folder has" : "folders have", " no picture: ", first_of(folders));
  if (text.empty()) return;
  if (strict) fail(text, "; convert or remove them, or leave --strict out");
  progress.clear();
  complain("warning: " + text);
}

DataSource open_training_data(const TrainConfig& config, Progress& progress) {
  DataSource source;
  std::tie(source.train, source.val) = data::ImageDataset::open_splits(resolve_data(config.data, progress));
  tell_ignored(config.data, {&source.train, &source.val}, config.strict, progress);
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
