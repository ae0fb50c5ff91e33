// weft lab compare: which of some settings is better, and whether by more than chance.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/interrupt.h"
#include "weft/apps/weft/lab.h"
#include "weft/apps/weft/lab_study.h"
#include "weft/apps/weft/study_report.h"
#include "weft/engine/file.h"
#include "weft/optim/training/trainer.h"

namespace weft::app {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

Study new_study(const StudyFlags& flags) {
  Study study{.title = flags.title, .base = merged_settings(flags, flags.preset), .axes = {}};
  // A config.json is of one run.
  if (flags.options.at("runs")->count() == 0) study.base.runs = flags.preset.runs;
  if (flags.vary.empty())
    usage_error("--vary is missing: what shall be compared? As in --vary activation=mish,relu");
  for (const std::string& text : flags.vary) {
    const StudyAxis axis = parse_axis(text);
    if (flags.options.at(axis.key)->count() > 0)
      usage_error(flag_of(axis.key), ": the study varies it; leave it out");
    study.axes.push_back(axis);
  }
  study.within = flags.within;
  make_cells(study, flags);
  return study;
}

/// The study of --resume; it has its own settings, and flags may only repeat them, but for where the data are
/// and for more --runs.
Study old_study(const StudyFlags& flags) {
  Study study = read_study({flags.resume}, flags);
  const TrainConfig wanted = merged_settings(flags, study.base);
  if (wanted.runs < study.base.runs)
    usage_error("--resume goes on with the study of ", flags.resume, ", which has ", study.base.runs,
                " runs of each cell; --runs ", wanted.runs, " would be fewer: leave it out, or give more");
  if (wanted.runs > study.base.runs) set_runs(study, wanted.runs);
  check_same_settings(flags, study.base, wanted);
  study.base.data = wanted.data;
  for (StudyCell& cell : study.cells)
    if (!cell.settings.contains("data")) cell.config.data = wanted.data;
  if (!flags.within.empty() && flags.within != study.within)
    usage_error("--resume goes on with the study of ", flags.resume, ", which is not --within ", flags.within,
                "; leave that out");
  if (!flags.axes_typed) return study;
  std::vector<StudyAxis> axes;
  for (const std::string& text : flags.vary) axes.push_back(parse_axis(text));
  if (axes != study.axes)
    usage_error("--resume goes on with the study of ", flags.resume,
                ", which varies something else; leave that out, or start anew");
  return study;
}

/// Where the data have moved, all files that name them shall say so: of runs that have ended, too.
void note_moved_study(const StudyFolder& folder, const Study& study) {
  write_study(folder, study);
  for (const StudyRun& r : study.runs) {
    const StudyCell& cell = study.cells[r.cell];
    const RunFolder run = folder.run(cell, r.run);
    std::error_code error;
    if (fs::exists(run.config(), error)) note_moved_data(run, cell.config);
  }
}

/// The pictures of all cells, each set opened once.
class StudyData {
 public:
  StudyData(const Study& study, Progress& progress) {
    for (const StudyCell& cell : study.cells) {
      const auto [at, is_new] = sets_.try_emplace({cell.config.data, cell.config.noisy_labels});
      if (is_new) {
        at->second = open_training_data(cell.config, progress);
        pictures_.push_back(fingerprint(at->second));
      }
      check(at->second.train.size() >= cell.config.batch_size, cell.name, ": there is no full batch of ",
            cell.config.batch_size, " in ", at->second.train.size(), " training images");
    }
  }
  const std::vector<std::string>& pictures() const { return pictures_; }
  const DataSource& of(const TrainConfig& config) const {
    return sets_.at({config.data, config.noisy_labels});
  }

 private:
  std::map<std::pair<std::string, std::string>, DataSource> sets_;
  std::vector<std::string> pictures_;
};

/// Throws Error where the folder of a new study holds something that it would replace.
void check_study_folder(const StudyFlags& flags, const StudyFolder& folder, const Study& study,
                        const std::optional<Study>& replaced) {
  const std::string path = folder.path.string();
  if (!replaced)
    check(!holds_run({folder.path}), path, " holds a run of weft train; give another --out");
  else
    check(flags.overwrite, path, " holds a study already: go on with it (--resume ", shell_word(path),
          "), replace it (--overwrite), or give another --out");
  std::set<std::string> ours;
  if (replaced)
    for (const StudyCell& cell : replaced->cells)
      for (int64_t k = 1; k <= replaced->base.runs; ++k) ours.insert(folder.run(cell, k).path.string());
  for (const StudyCell& cell : study.cells)
    for (int64_t k = 1; k <= study.base.runs; ++k)
      check(ours.contains(folder.run(cell, k).path.string()) || !holds_run(folder.run(cell, k)),
            folder.run(cell, k).path.string(), " holds a run that is of no study; give another --out");
}

/// The runs of a study that are still to be made, one after the other.
class StudySession {
 public:
  StudySession(const StudyFlags& flags, const StudyFolder& folder, Study& study,
               const std::optional<Study>& replaced, const StudyData& data, Progress& progress)
      : flags_(flags),
        folder_(folder),
        study_(study),
        replaced_(replaced),
        data_(data),
        progress_(progress),
        resumed_(!flags.resume.empty()),
        begun_(resumed_) {}

  /// False where it was interrupted.
  bool run() {
    // Seed by seed, so that what a stopped study has is balanced.
    for (int64_t k = 1; k <= study_.base.runs; ++k)
      for (size_t cell = 0; cell < study_.cells.size(); ++cell)
        if (interrupted() != 0 || !run(cell, k)) return false;
    return true;
  }
  /// Whether there is something to go on with.
  bool begun() const { return begun_; }

 private:
  bool run(size_t index, int64_t k) {
    const StudyCell& cell = study_.cells[index];
    const RunFolder folder = folder_.run(cell, k);
    const auto known = std::find_if(study_.runs.begin(), study_.runs.end(),
                                    [&](const StudyRun& r) { return r.cell == index && r.run == k; });
    if (known != study_.runs.end()) {
      drop_checkpoint(*known, folder);
      return true;
    }
    TrainConfig config = cell.config;
    config.seed += uint64_t(k - 1);
    const MadeFolder made(folder);
    const RunLock lock(folder);
    progress_.line(fmt::format("run {}/{}: {}, seed {}", study_.runs.size() + 1, study_.total_runs(),
                               cell.name, config.seed));
    RunOptions options = flags_.run;
    options.resume = begun_ && fs::exists(folder.config());
    options.tensorboard = options.tensorboard || (resumed_ && fs::exists(first_run().events()));
    options.before_files = [this] { begin(); };
    if (options.stop_after_steps > 0) options.stop_after_steps -= steps_;
    StudyRun ended{.cell = index, .run = k, .seed = config.seed};
    try {
      const auto summary = train_run(config, data_.of(config), folder, options, progress_);
      if (!summary) return false;
      summary->at("final_val_accuracy").get_to(ended.final_accuracy);
      summary->at("best_val_accuracy").get_to(ended.best_accuracy);
      summary->at("final_val_loss").get_to(ended.loss);
      summary->at("seconds").get_to(ended.seconds);
      steps_ += summary->at("steps").get<int64_t>();
    } catch (const training::DivergedError& e) {
      ended.diverged = e.where;
    } catch (const Error& e) {
      fail(cell.name, ", seed ", config.seed, ": ", e.what());
    }
    begin();  // it may have diverged in its first step
    tell(cell, ended);
    study_.runs.push_back(std::move(ended));
    write_study(folder_, study_);
    write_report(folder_, study_);
    drop_checkpoint(study_.runs.back(), folder);
    return true;
  }

  /// A step has shown by now that the first run fits its data and this machine.
  void begin() {
    if (std::exchange(begun_, true)) return;
    if (replaced_) {
      check(interrupted() == 0, "interrupted in its first step; the study in ", folder_.path.string(),
            " is as it was");
      remove_study(folder_, *replaced_, first_run().path);
    }
    write_study(folder_, study_);
  }

  RunFolder first_run() const { return folder_.run(study_.cells.front(), 1); }

  /// Of a run that is done, and has nothing to go on with; it may take as much as two models or three.
  static void drop_checkpoint(const StudyRun& run, const RunFolder& folder) {
    std::error_code ignored;
    if (!run.diverged) fs::remove(folder.checkpoint(), ignored);
  }

  void tell(const StudyCell& cell, const StudyRun& run) {
    json event = {{"event", "run"}, {"cell", cell.name}, {"run", run.run}, {"seed", run.seed}};
    if (run.diverged)
      event["diverged"] = *run.diverged;
    else
      event["final_val_accuracy"] = run.final_accuracy;
    progress_.event(event);
    if (run.diverged) progress_.line("diverged: " + *run.diverged);
  }

  const StudyFlags& flags_;
  const StudyFolder& folder_;
  Study& study_;
  const std::optional<Study>& replaced_;
  const StudyData& data_;
  Progress& progress_;
  const bool resumed_;
  bool begun_;         // compare.json is written
  int64_t steps_ = 0;  // of the runs that ended in this session
};

/// A line for each cell.
void tell_results(const Study& study, Progress& progress) {
  const std::vector<CellResult> results = results_of(study);
  for (size_t i = 0; i < results.size(); ++i) {
    const CellResult& r = results[i];
    std::string line = fmt::format("{}: ", study.cells[i].name);
    if (r.accuracy.n > 0) line += fmt::format("{:.2f} %", 100 * r.accuracy.mean);
    if (r.accuracy.half_width)
      line += fmt::format(" +- {:.2f} (half the 95 % interval)", 100 * *r.accuracy.half_width);
    line += fmt::format(" ({}{})", count_of(r.accuracy.n, "run"),
                        r.diverged > 0 ? fmt::format(", {} diverged", r.diverged) : std::string());
    if (r.p_holm)
      line += fmt::format(", {:+.2f} points to {}, p {:.2g} (Holm)", 100 * r.difference.mean,
                          study.cells[r.baseline].name, *r.p_holm);
    progress.line(line);
  }
  for (const std::string& sentence : cells_alike(study)) progress.line("warning: " + sentence);
  progress.event({{"event", "study"}, {"summary", study_summary(study, results)}});
}

}  // namespace

void add_study_flags(CLI::App& command, StudyFlags& flags) {
  flags.config = flags.preset;
  command
      .add_option("--vary", flags.vary,
                  "KEY=VALUE,VALUE,...: a flag of a run's settings and what to compare of it; may be "
                  "repeated, for all combinations")
      ->check(is_given)
      ->expected(1)
      ->take_all();
  add_run_flags(command, flags, "study");
}

int run_study(StudyFlags flags) {
  std::replace(flags.within.begin(), flags.within.end(), '-', '_');
  const Output output = output_of(flags);
  const bool resumed = !flags.resume.empty();
  std::optional<RunLock> lock;
  if (resumed) {
    check_resume_flags(flags);
    lock.emplace(RunFolder{flags.resume});
  }
  Study study = resumed ? old_study(flags) : new_study(flags);
  const std::unique_ptr<ConvTuning> tuning = set_up_process(flags, study.base);
  const InterruptGuard guard;
  Progress progress(output);
  const StudyData data(study, progress);
  if (resumed && data.pictures() != study.pictures)
    fail("--resume ", flags.resume, ": the study is of other pictures, ", study.pictures.front(),
         ", where there are ", data.pictures().front(), " now; put them back, or start anew");
  study.pictures = data.pictures();
  std::optional<MadeFolder> made;
  if (!resumed) made.emplace(make_run_folder(flags.out));
  const StudyFolder folder{made ? made->folder().path : fs::path(flags.resume)};
  if (!lock) lock.emplace(RunFolder{folder.path});
  for (const std::string& file : folder.files()) remove_leftovers(file, lock->held());
  std::optional<Study> replaced;
  if (resumed && flags.options.at("data")->count() > 0) note_moved_study(folder, study);
  if (!resumed && fs::exists(folder.study())) {
    try {
      replaced = read_study(folder, flags);
    } catch (const Error& e) {
      fail(e.what(), "; remove that study by hand, or give another --out");
    }
  }
  if (!resumed) check_study_folder(flags, folder, study, replaced);
  // So that a study that is stopped again knows how many it shall have.
  if (resumed && flags.options.at("runs")->count() > 0) write_study(folder, study);
  StudySession session(flags, folder, study, replaced, data, progress);
  if (!session.run()) {
    check(session.begun(), "interrupted before its first step; nothing was written");
    progress.line(
        fmt::format("stopped; go on with: weft lab compare --resume {}", shell_word(folder.path.string())));
    progress.event({{"event", "stopped"}, {"resume", folder.path.string()}});
    return kFailed;
  }
  write_report(folder, study);  // one may have been removed, or be an older version's
  tell_results(study, progress);
  for (const std::string& file : folder.files()) progress.line("wrote " + file);
  return kDone;
}

void add_lab_compare(CLI::App& lab, Action& action) {
  auto flags = std::make_shared<StudyFlags>();
  flags->preset.runs = 3;
  CLI::App* command = lab.add_subcommand(
      "compare", "Trains with every combination of some settings, and compares the results");
  add_study_flags(*command, *flags);
  command->add_option("--within", flags->within,
                      "compare each cell with the first that has the same value of this varied KEY, not with "
                      "the first of all");
  command->footer(
      "Seeds are the same for each combination (a cell). Writes compare.json, results.csv, summary.json, "
      "report.md, plot.svg and\n"
      "a folder for each cell with the folders of its runs, as of weft train but without checkpoints of "
      "those that are done.\n"
      "A run that diverges is counted and left out of the means. --resume with more --runs adds seeds.\n"
      "Ctrl-C or SIGTERM ends after a checkpoint, with exit code 1.");
  command->final_callback([flags, &action] {
    action = [flags] {
      StudyFlags own = *flags;
      own.axes_typed = !own.vary.empty();
      return run_study(own);
    };
  });
}

}  // namespace weft::app
