// The files of a run's folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "weft/apps/weft/config.h"
#include "weft/engine/summary_writer.h"
#include "weft/optim/training/checkpoint.h"

namespace weft::app {

/// Names of the files in a run's folder.
struct RunFolder {
  std::filesystem::path path;

  std::string file(const char* name) const { return (path / name).string(); }
  std::string config() const { return file("config.json"); }
  std::string metrics() const { return file("metrics.csv"); }
  std::string summary() const { return file("summary.json"); }
  std::string model() const { return file("model.safetensors"); }
  std::string best() const { return file("best.safetensors"); }
  std::string checkpoint() const { return file("checkpoint.safetensors"); }
  std::string events() const { return file(SummaryWriter::kFileName); }
  /// Sub-folder of run k (from 1) of several.
  RunFolder run(int64_t k) const { return {path / ("run-" + std::to_string(k))}; }
};

/// A folder, with those above it, that was made here. At its end it removes what of that is empty still.
class MadeFolder {
 public:
  /// Makes it where it is not there. Throws Error naming it where it cannot be made or written to.
  explicit MadeFolder(const RunFolder& folder);
  ~MadeFolder();
  MadeFolder(MadeFolder&&) = default;
  MadeFolder& operator=(MadeFolder&&) = delete;

  const RunFolder& folder() const { return folder_; }
  bool is_new() const { return !made_.empty(); }

 private:
  RunFolder folder_;
  std::vector<std::filesystem::path> made_;  // the deepest first
};
/// True where the folder holds files of a run already; of several `runs`, also those of run-1 to run-N in it.
bool holds_run(const RunFolder& folder, int64_t runs = 1);
/// Removes the files of the folder's run, nothing else: of several runs, which its config.json or `runs`
/// speaks of, those of run-1 to run-N, too.
void remove_run(const RunFolder& folder, int64_t runs = 1);
/// Makes the folder of --out, or, where that is empty, "runs/20261123-182700", with -2, -3, ... where that is
/// taken.
MadeFolder make_run_folder(const std::string& out);

/// While it lives no other process can have one for this folder: two runs would mix their files. Throws Error
/// where another one has. On file systems that know no such locks it locks nothing. Removes what killed runs
/// have left (remove_leftovers()).
class RunLock {
 public:
  explicit RunLock(const RunFolder& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// False on a file system that knows no such locks.
  bool held() const { return held_; }

 private:
  int descriptor_;
  bool held_ = false;
};

void write_config(const RunFolder& folder, const TrainConfig& config);
/// Where the folder's config.json names other data than `config`, writes it anew with these.
void note_moved_data(const RunFolder& folder, const TrainConfig& config);
/// A line for each epoch; `metrics` of the results begins with the accuracy.
void write_metrics(const RunFolder& folder, const std::vector<training::EpochResult>& rows);
void write_summary(const RunFolder& folder, const nlohmann::json& summary);
/// Throws Error naming the file where it is damaged.
nlohmann::json read_summary(const RunFolder& folder);

/// Most memory that this process has had resident so far.
int64_t peak_memory_bytes();

}  // namespace weft::app
