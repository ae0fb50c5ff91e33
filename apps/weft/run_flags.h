// The flags that weft train and the studies of weft lab share: every setting of a run, and how runs are made.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "weft/apps/weft/config.h"
#include "weft/apps/weft/conv_tuning.h"
#include "weft/apps/weft/progress.h"
#include "weft/apps/weft/run.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace weft::app {

struct RunFlags {
  TrainConfig preset;                           // the settings before any flag
  TrainConfig config;                           // the same, then as typed; see `options` for what was
  std::map<std::string, CLI::Option*> options;  // by setting
  std::string out, resume, config_file;
  bool overwrite = false, quiet = false, json_lines = false;
  int threads = 0;
  RunOptions run;
};

/// Adds a flag for each setting, whose default is what flags.config holds, and those for --config, the cache,
/// threads and output.
void add_setting_flags(CLI::App& command, RunFlags& flags);
/// These, and those for files and for how a run is made. `what` is made, "run" or "study".
void add_run_flags(CLI::App& command, RunFlags& flags, const std::string& what);

/// Leaves the flags of settings that have no part in a command out of its help; they are taken all the same.
void hide_flags(const RunFlags& flags, std::initializer_list<const char*> keys);

/// The settings that were typed, and no others.
nlohmann::json typed_settings(const RunFlags& flags);
/// Throws UsageError for flags that --resume leaves no room for.
void check_resume_flags(const RunFlags& flags);
/// Paths from the root, so that the settings hold in any folder.
void anchor_paths(TrainConfig& config);
/// `base` with --config and what was typed over it, and an anchored --data.
TrainConfig merged_settings(const RunFlags& flags, TrainConfig base);
/// What follows from the settings that are there, the model's own activation and the like. Throws as
/// validate(), which it calls; a value that --config or the run of --resume has is named by file and key.
void complete(TrainConfig& config, const RunFlags& flags);
/// Throws UsageError naming a setting in which `wanted` differs from `saved`, the settings that --resume
/// takes from its folder; where the data are is none of these.
void check_same_settings(const RunFlags& flags, const TrainConfig& saved, TrainConfig wanted);

/// How the flags want to be told of progress. Throws UsageError where they contradict each other.
Output output_of(const RunFlags& flags);
/// Sets for the whole process what the flags and `config` say of threads, algorithms and the GPU. Where
/// algorithms are measured (--tune), that lasts as long as what it returns.
std::unique_ptr<ConvTuning> set_up_process(RunFlags& flags, const TrainConfig& config);

/// What is wrong with the value of a flag, for CLI11; empty: nothing.
std::string is_given(const std::string& value);

}  // namespace weft::app
