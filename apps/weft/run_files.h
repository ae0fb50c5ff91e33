// The files of a run's folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "weft/apps/weft/config.h"
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
  std::string checkpoint() const { return file("checkpoint.safetensors"); }
  /// Sub-folder of run k (from 1) of several.
  RunFolder run(int64_t k) const { return {path / ("run-" + std::to_string(k))}; }
};

/// Makes the folder. Throws Error naming it where it cannot be made or written to.
void make_run_folder(const RunFolder& folder);
/// True where the folder holds a run already.
bool holds_run(const RunFolder& folder);
/// Removes a run's own files, nothing else.
void remove_run(const RunFolder& folder);
/// "runs/20261123-182700", with -2, -3, ... where that is taken.
RunFolder default_run_folder();

void write_config(const RunFolder& folder, const TrainConfig& config);
/// A line for each epoch; `metrics` of the results begins with the accuracy.
void write_metrics(const RunFolder& folder, const std::vector<training::EpochResult>& rows);
void write_summary(const RunFolder& folder, const nlohmann::json& summary);
nlohmann::json read_summary(const RunFolder& folder);

/// Most memory that this process has had resident so far.
int64_t peak_memory_bytes();

}  // namespace weft::app
