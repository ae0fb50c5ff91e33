#include "weft/apps/weft/run_files.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/version.h"
#include "weft/engine/error.h"
#include "weft/engine/file.h"
#include "weft/engine/whole_number.h"

namespace weft::app {

namespace fs = std::filesystem;

namespace {

std::vector<std::string> files_of(const RunFolder& f) {
  return {f.metrics(), f.summary(), f.model(), f.best(), f.checkpoint(), f.events(), f.config()};
}

/// How many runs the folder's config.json speaks of; 1 where there is none, or it is damaged.
int64_t runs_of(const RunFolder& folder) {
  TrainConfig config;
  try {
    read_config(folder.config(), config);
  } catch (const Error&) {  // damaged
  }
  return std::min<int64_t>(config.runs, 10'000);
}

/// Those of the folder's own files that are there, and, of several runs, of its run-1 to run-N. Other runs
/// may lie in it, too. Last comes config.json, which says how many there are.
std::vector<std::string> present_files(const RunFolder& folder, int64_t runs) {
  std::vector<std::string> names;
  for (int64_t k = 1; runs > 1 && k <= runs; ++k)
    for (const std::string& name : files_of(folder.run(k))) names.push_back(name);
  for (const std::string& name : files_of(folder)) names.push_back(name);
  std::erase_if(names, [](const std::string& name) {
    std::error_code error;
    const fs::file_type type = fs::symlink_status(name, error).type();
    return type != fs::file_type::regular && type != fs::file_type::symlink;
  });
  return names;
}

}  // namespace

MadeFolder::MadeFolder(const RunFolder& folder) : folder_(folder) {
  std::error_code error;
  std::vector<fs::path> missing;
  for (fs::path path = folder.path; !path.empty() && !fs::exists(path, error); path = path.parent_path())
    missing.push_back(path);
  const bool is_new = fs::create_directories(folder.path, error);
  check(!error, "cannot make the folder ", folder.path.string(), ": ", error.message(),
        "; give another one with --out");
  const bool writable = access(folder.path.c_str(), W_OK | X_OK) == 0;  // before errno is read
  check(writable, "cannot write into ", folder.path.string(), ": ", std::strerror(errno),
        "; give another folder with --out");
  if (is_new) made_ = std::move(missing);
}

MadeFolder::~MadeFolder() {
  for (const fs::path& path : made_) rmdir(path.c_str());  // fails where something is in it
}

bool holds_run(const RunFolder& folder, int64_t runs) { return !present_files(folder, runs).empty(); }

void remove_run(const RunFolder& folder, int64_t runs) {
  for (const std::string& name : present_files(folder, std::max(runs, runs_of(folder)))) {
    std::error_code error;
    fs::remove(name, error);
    check(!error, "cannot remove ", name, ": ", error.message());
  }
}

MadeFolder make_run_folder(const std::string& out) {
  if (!out.empty()) return MadeFolder({out});
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  const std::string name = fmt::format("runs/{:%Y%m%d-%H%M%S}", local);
  for (int k = 1;; ++k) {
    const RunFolder folder{k == 1 ? name : fmt::format("{}-{}", name, k)};
    if (fs::exists(folder.path)) continue;
    if (MadeFolder made(folder); made.is_new()) return made;  // and no other process was faster
  }
}

RunLock::RunLock(const RunFolder& folder) : descriptor_(open(folder.path.c_str(), O_RDONLY | O_CLOEXEC)) {
  held_ = descriptor_ >= 0 && flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  if (descriptor_ >= 0 && !held_ && errno == EWOULDBLOCK) {
    close(descriptor_);
    fail("another weft is training in ", folder.path.string(), "; wait for its end, or give another --out");
  }
  for (const std::string& name : files_of(folder)) remove_leftovers(name, held_);
}

RunLock::~RunLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

void write_config(const RunFolder& folder, const TrainConfig& config) {
  nlohmann::json json = to_json(config);
  json["weft_version"] = kVersion;
  write_file(folder.config(), json.dump(2) + "\n");
}

void note_moved_data(const RunFolder& folder, const TrainConfig& config) {
  TrainConfig saved;
  read_config(folder.config(), saved);
  if (saved.data == config.data) return;
  saved.data = config.data;
  write_config(folder, saved);
}

void write_metrics(const RunFolder& folder, const std::vector<training::EpochResult>& rows) {
  std::string csv = "epoch,train_loss,val_loss,val_accuracy,lr,seconds,images_per_second\n";
  for (const training::EpochResult& r : rows)
    csv += fmt::format("{},{:.6f},{:.6f},{:.6f},{:.6g},{:.3f},{:.3f}\n", r.epoch, r.train_loss, r.valid_loss,
                       r.metrics.at(0), r.lr, r.seconds, r.samples_per_second);
  write_file(folder.metrics(), csv);
}

void write_summary(const RunFolder& folder, const nlohmann::json& summary) {
  write_file(folder.summary(), summary.dump(2) + "\n");
}

nlohmann::json read_summary(const RunFolder& folder) {
  const std::string mend = "; remove it, and --resume writes it anew";
  const nlohmann::json summary = read_json(folder.summary(), mend);
  for (const char* key : {"final_val_accuracy", "best_val_accuracy", "best_epoch", "final_val_loss",
                          "final_train_loss", "seconds", "train_seconds", "images_per_second", "steps",
                          "peak_memory_bytes", "gpu_memory_bytes", "skipped_images"})
    check(summary.is_object() && summary.contains(key) && summary[key].is_number(), folder.summary(),
          ": not the summary of a run (\"", key, "\" is missing)", mend);
  for (const char* key : {"final_val_accuracy", "best_val_accuracy"})
    check(summary[key] >= 0 && summary[key] <= 1, folder.summary(), ": \"", key, "\" is not from 0 to 1",
          mend);
  for (const char* key : {"best_epoch", "steps", "peak_memory_bytes", "gpu_memory_bytes", "skipped_images"})
    whole_number<int64_t>(summary[key], folder.summary() + ": " + key, 0);
  return summary;
}

int64_t peak_memory_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace weft::app
