// weft train: the command line, one run or several.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <utility>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/config.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/interrupt.h"
#include "weft/apps/weft/list_models.h"
#include "weft/apps/weft/progress.h"
#include "weft/apps/weft/run.h"
#include "weft/apps/weft/run_files.h"
#include "weft/apps/weft/run_flags.h"
#include "weft/apps/weft/statistics.h"
#include "weft/apps/weft/study.h"
#include "weft/optim/training/trainer.h"

namespace weft::app {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

struct TrainFlags : RunFlags {
  bool list_models = false;
};

/// A study keeps no checkpoint of a run that has ended.
void check_of_no_study(const RunFolder& folder) {
  const fs::path study = study_around(folder);
  const bool ended = fs::exists(folder.model()) && !fs::exists(folder.checkpoint());
  check(study.empty() || !ended, folder.path.string(), " holds a run of the study in ", study.string(),
        ", which has ended; go on with the study (weft lab compare --resume ", shell_word(study.string()),
        "), or give another --out");
}

TrainConfig settings_of(const TrainFlags& flags) {
  TrainConfig base;
  if (!flags.resume.empty()) {
    check_resume_flags(flags);
    std::error_code error;
    check(!fs::exists(StudyFolder{flags.resume}.study(), error), "--resume ", flags.resume,
          ": this folder holds a study; go on with it: weft lab compare --resume ", shell_word(flags.resume));
    check(fs::exists(RunFolder{flags.resume}.config(), error), "--resume ", flags.resume,
          ": there is no run in this folder (no config.json)");
    check_of_no_study({flags.resume});
    read_config(flags.resume, base);
  }
  TrainConfig config = merged_settings(flags, base);
  complete(config, flags);
  const std::string settings = flags.resume.empty() ? flags.config_file : flags.resume;
  if (!settings.empty() && flags.options.at("data")->count() == 0) check_not_moved(config.data, settings);
  if (!flags.resume.empty()) check_same_settings(flags, base, config);
  return config;
}

/// Whose lock is held: nobody adds a run meanwhile.
void check_free(const TrainFlags& flags, const RunFolder& folder, int64_t runs) {
  check(!fs::exists(StudyFolder{folder.path}.study()), folder.path.string(),
        " holds a study of weft lab compare; give another --out");
  if (flags.resume.empty() && !flags.overwrite) check_of_no_study(folder);
  if (flags.resume.empty() && !flags.overwrite)
    check(!holds_run(folder, runs), folder.path.string(), " holds a run already: go on with it (--resume ",
          shell_word(folder.path.string()), "), replace it (--overwrite), or give another --out");
}

/// Removes the old run, but not for one that was interrupted in its first step.
void give_way(const RunFolder& folder, int64_t runs = 1) {
  check(interrupted() == 0 || !holds_run(folder, runs), "interrupted in its first step; the run in ",
        folder.path.string(), " is as it was");
  remove_run(folder, runs);
}

void tell_files(const RunFolder& folder, Progress& progress) {
  for (const std::string& file : {folder.model(), folder.best(), folder.metrics(), folder.summary(),
                                  folder.config(), folder.checkpoint()})
    if (fs::exists(file)) progress.line("wrote " + file);
}

int tell_interrupted(const RunFolder& folder, Progress& progress) {
  progress.line(fmt::format("stopped; go on with: weft train --resume {}", shell_word(folder.path.string())));
  progress.event({{"event", "stopped"}, {"resume", folder.path.string()}});
  return kFailed;
}

int train_once(const TrainFlags& flags, const TrainConfig& config, const DataSource& data,
               const RunFolder& folder, Progress& progress) {
  RunOptions options = flags.run;
  options.resume = !flags.resume.empty();
  if (flags.overwrite) options.before_files = [&] { give_way(folder); };
  bool written = false;
  options.after_files = [&] { written = true; };
  const auto summary = train_run(config, data, folder, options, progress);
  if (!summary) return tell_interrupted(folder, progress);
  progress.line(fmt::format("validation accuracy {:.2f} % (best {:.2f} %) in {}",
                            100 * summary->at("final_val_accuracy").get<double>(),
                            100 * summary->at("best_val_accuracy").get<double>(),
                            format_duration(summary->at("seconds").get<double>())));
  if (written) tell_files(folder, progress);
  return kDone;
}

/// One of several runs that has diverged.
struct DivergedRun {
  int64_t run;
  std::string where;
};

/// What all runs share that did not diverge, and of the rest: of final_* the means, with the sample's
/// standard deviation of the accuracy (0 for one run); of best_* the best run's; sums of the times; the most
/// of memory and skipped images; the mean rate; the first run's seed, as config.json says it.
json summary_of_runs(const std::vector<json>& runs, const std::vector<DivergedRun>& diverged, uint64_t seed) {
  const auto all = [&](const char* key) {
    std::vector<double> values;
    for (const json& run : runs) values.push_back(run.at(key));
    return values;
  };
  const auto sum = [&](const char* key) {
    const std::vector<double> values = all(key);
    return std::accumulate(values.begin(), values.end(), 0.0);
  };
  const auto most = [&](const char* key) {
    int64_t value = 0;
    for (const json& run : runs) value = std::max(value, run.at(key).get<int64_t>());
    return value;
  };
  const std::vector<double> accuracies = all("final_val_accuracy"), bests = all("best_val_accuracy");
  const auto best = std::max_element(bests.begin(), bests.end()) - bests.begin();
  const MeanOf mean = mean_of(accuracies);
  const double n = double(runs.size());
  // Of the runs that are not among those that diverged.
  int64_t best_run = best + 1;
  for (const DivergedRun& d : diverged) best_run += d.run <= best_run;
  json summary = runs.front(), lost = json::array();
  for (const DivergedRun& d : diverged) lost.push_back({{"run", d.run}, {"where", d.where}});
  summary.update({{"runs", runs.size()},
                  {"diverged", lost},
                  {"seed", seed},
                  {"mean_val_accuracy", mean.mean},
                  {"std_val_accuracy", mean.deviation.value_or(0)},
                  {"val_accuracies", accuracies},
                  {"final_val_accuracy", mean.mean},
                  {"final_val_loss", sum("final_val_loss") / n},
                  {"final_train_loss", sum("final_train_loss") / n},
                  {"best_val_accuracy", bests[size_t(best)]},
                  {"best_epoch", runs[size_t(best)].at("best_epoch")},
                  {"best_run", best_run},
                  {"seconds", sum("seconds")},
                  {"train_seconds", sum("train_seconds")},
                  {"images_per_second", sum("images_per_second") / n},
                  {"peak_memory_bytes", most("peak_memory_bytes")},
                  {"gpu_memory_bytes", most("gpu_memory_bytes")},
                  {"skipped_images", most("skipped_images")}});
  return summary;
}

[[noreturn]] void fail_diverged(const TrainConfig& config, const std::vector<DivergedRun>& diverged) {
  const std::string runs = joined(diverged, "; ", [&](const DivergedRun& d) {
    return concat("run-", d.run, " (seed ", config.seed + uint64_t(d.run - 1), "): ", d.where);
  });
  const size_t others = size_t(config.runs) - diverged.size();
  fail(diverged.size(), " of ", config.runs, " runs diverged: ", runs, "; try a lower --lr (it was ",
       config.lr, ")", others > 0 ? concat(". summary.json is of the other ", others) : "");
}

int train_several(const TrainFlags& flags, const TrainConfig& config, const DataSource& data,
                  const RunFolder& folder, Progress& progress) {
  std::vector<json> summaries;
  std::vector<DivergedRun> diverged;
  bool trained = false;  // in this session
  TrainConfig saved = config;
  if (!flags.resume.empty()) read_config(folder.config(), saved);
  const bool moved = saved.data != config.data;
  const bool events = flags.run.tensorboard || (!flags.resume.empty() && fs::exists(folder.run(1).events()));
  bool begun = !flags.resume.empty();  // the folder's own files are written
  const auto begin = [&] {
    if (std::exchange(begun, true)) return;
    if (flags.overwrite) give_way(folder, config.runs);
    write_config(folder, config);
  };
  for (int64_t k = 1; k <= config.runs; ++k) {
    TrainConfig own = config;
    own.runs = 1, own.seed = config.seed + uint64_t(k - 1);
    const RunFolder sub = folder.run(k);
    // Those that have ended are asked where their data have moved: their config.json shall say so, too.
    const bool ended = !flags.resume.empty() && fs::exists(sub.summary());
    if (ended && !(moved && fs::exists(sub.checkpoint()))) {
      summaries.push_back(read_summary(sub));
      continue;
    }
    trained = trained || !ended;
    const MadeFolder made(sub);
    const RunLock lock(sub);
    progress.line(fmt::format("run {}/{}, seed {}", k, config.runs, own.seed));
    RunOptions options = flags.run;
    options.resume = !flags.resume.empty() && fs::exists(sub.config());
    options.tensorboard = events;
    if (moved) options.after_match = [&] { note_moved_data(folder, config); };
    options.before_files = begin;
    try {
      const auto summary = train_run(own, data, sub, options, progress);
      if (!summary) return tell_interrupted(folder, progress);
      summaries.push_back(*summary);
    } catch (const training::DivergedError& e) {
      diverged.push_back({k, e.where});
      progress.line("diverged: " + e.where);
      progress.event({{"event", "diverged"}, {"run", k}, {"seed", own.seed}, {"where", e.where}});
      begin();  // it may have been in its first step
    }
  }
  if (summaries.empty()) fail_diverged(config, diverged);
  const json summary = summary_of_runs(summaries, diverged, config.seed);
  const bool write = trained || !fs::exists(folder.summary());
  if (write)
    write_summary(folder, summary);
  else
    progress.line("the runs had ended; nothing is left to do");
  progress.line(fmt::format(
      "validation accuracy {:.2f} % +- {:.2f} (standard deviation) over {}{}",
      100 * summary.at("mean_val_accuracy").get<double>(), 100 * summary.at("std_val_accuracy").get<double>(),
      count_of(int64_t(summaries.size()), "run"),
      diverged.empty() ? "" : fmt::format(", without {} that diverged", diverged.size())));
  progress.event({{"event", "runs"}, {"summary", summary}});
  if (write)
    progress.line("wrote " + folder.summary() + " and run-1 to run-" + std::to_string(config.runs) +
                  " beside it");
  if (!diverged.empty()) fail_diverged(config, diverged);
  return kDone;
}

int train(TrainFlags flags) {
  if (flags.list_models) return list_models(flags.json_lines);
  const Output output = output_of(flags);
  // Locked before its settings are read: a weft that replaces the run has removed them for a moment.
  std::optional<RunLock> lock;
  if (!flags.resume.empty()) lock.emplace(RunFolder{flags.resume});
  const TrainConfig config = settings_of(flags);
  const std::unique_ptr<ConvTuning> tuning = set_up_process(flags, config);
  const InterruptGuard guard;
  Progress progress(output);
  const DataSource data = open_training_data(config, progress);
  std::optional<MadeFolder> made;
  if (flags.resume.empty()) made.emplace(make_run_folder(flags.out));
  const RunFolder folder = made ? made->folder() : RunFolder{flags.resume};
  if (!lock) lock.emplace(folder);
  check_free(flags, folder, config.runs);
  return config.runs == 1 ? train_once(flags, config, data, folder, progress)
                          : train_several(flags, config, data, folder, progress);
}

}  // namespace

void add_train(CLI::App& weft, Action& action) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* command = weft.add_subcommand("train", "Trains an image classifier");
  add_run_flags(*command, *flags, "run");
  command->add_flag("--list-models", flags->list_models,
                    "name the models with their sources, parameters and multiply-adds, and train none");
  command->footer(
      "Writes config.json, metrics.csv (seconds and images_per_second are of training alone), summary.json "
      "(seconds are of\n"
      "everything), model.safetensors, with --keep-best best.safetensors, and checkpoint.safetensors. Ctrl-C "
      "or SIGTERM ends after a checkpoint, with exit code 1.");
  command->final_callback([flags, &action] { action = [flags] { return train(*flags); }; });
}

}  // namespace weft::app
