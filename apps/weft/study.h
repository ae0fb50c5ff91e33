// A study: runs with every combination of some settings over the same seeds, in one folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "weft/apps/weft/config.h"
#include "weft/apps/weft/run_files.h"
#include "weft/apps/weft/run_flags.h"

namespace weft::app {

/// A setting that is varied, and its values.
struct StudyAxis {
  std::string key;
  std::vector<nlohmann::json> values;
  bool operator==(const StudyAxis&) const = default;
};

/// One combination of values.
struct StudyCell {
  std::string name;         ///< of its folder too: "depth15_mish", "mish_lr0.01"
  nlohmann::json settings;  ///< of the axes, by key
  TrainConfig config;       ///< of its first run
};

/// A run that has ended.
struct StudyRun {
  size_t cell = 0;
  int64_t run = 1;
  uint64_t seed = 0;
  std::optional<std::string> diverged = {};  ///< where; the numbers are 0 then
  double final_accuracy = 0, best_accuracy = 0, loss = 0, seconds = 0;
};

struct Study {
  std::string title;
  TrainConfig base;  ///< of all cells; its `runs` are the seeds of each
  std::vector<StudyAxis> axes;
  /// A cell's baseline is the first cell with the same value of this key; where it is empty, the first of
  /// all.
  std::string within = {};
  std::vector<std::string> pictures = {};  ///< fingerprint() of each set, as cells come to them
  std::vector<StudyCell> cells = {};
  std::vector<StudyRun> runs = {};

  int64_t total_runs() const { return int64_t(cells.size()) * base.runs; }
};

/// Reads "KEY=V1,V2,...". Throws UsageError for a key that is none or holds for a whole study, and for values
/// that the setting cannot have, or has twice.
StudyAxis parse_axis(const std::string& text);

/// Fills in the cells, the last axis fastest. Throws UsageError where one of them is no run that can be, or
/// two are the same.
void make_cells(Study& study, const RunFlags& flags);

/// Changes how many runs each cell has. Throws UsageError where that makes too many.
void set_runs(Study& study, int64_t runs);

/// The files of a study's folder, beside a folder for each cell.
struct StudyFolder {
  std::filesystem::path path;

  std::string file(const char* name) const { return (path / name).string(); }
  std::string study() const { return file("compare.json"); }
  std::string results() const { return file("results.csv"); }
  std::string summary() const { return file("summary.json"); }
  std::string report() const { return file("report.md"); }
  std::string plot() const { return file("plot.svg"); }
  std::vector<std::string> files() const { return {results(), summary(), report(), plot(), study()}; }
  /// Of one run, from 1, of a cell.
  RunFolder run(const StudyCell& cell, int64_t k) const { return RunFolder{path / cell.name}.run(k); }
};

/// The folder of the study that `run` is a part of, by its place below compare.json; empty: of none.
std::filesystem::path study_around(const RunFolder& run);
/// The runs with a model in a study's folder, sorted: "STUDY/relu/run-1".
std::vector<std::string> runs_in(const StudyFolder& folder);

/// compare.json: all that going on needs.
void write_study(const StudyFolder& folder, const Study& study);
/// Throws Error naming the file where it is missing or damaged.
Study read_study(const StudyFolder& folder, const RunFlags& flags);
/// Removes the study that the folder holds, and nothing else; of the run in `kept`, which somebody has
/// locked, the files alone.
void remove_study(const StudyFolder& folder, const Study& study, const std::filesystem::path& kept);

}  // namespace weft::app
