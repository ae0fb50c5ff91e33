// weft train: the command line, one run or several.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/config.h"
#include "weft/apps/weft/conv_tuning.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/interrupt.h"
#include "weft/apps/weft/list_models.h"
#include "weft/apps/weft/names.h"
#include "weft/apps/weft/progress.h"
#include "weft/apps/weft/run_files.h"
#include "weft/apps/weft/trainer.h"
#include "weft/kernels/convolution.h"
#include "weft/kernels/cuda.h"

namespace weft::app {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

struct TrainFlags {
  TrainConfig config;                           // as typed; see `options` for what was
  std::map<std::string, CLI::Option*> options;  // by setting
  std::string out, resume, config_file;
  bool overwrite = false, quiet = false, json_lines = false, list_models = false;
  int threads = 0;
  TrainerOptions trainer;
};

/// From the root, so that config.json holds in any folder; short where no link stands in the way.
std::string absolute(const std::string& path) {
  const fs::path whole = fs::absolute(path), brief = whole.lexically_normal();
  std::error_code none;
  return (fs::equivalent(whole, brief, none) ? brief : whole).string();
}

/// The settings that were typed, and no others.
json typed_settings(const TrainFlags& flags) {
  TrainConfig config = flags.config;
  // A file that is not here lies beside train/ in the data, and its name stays as it is: in a config.json,
  // too.
  const size_t colon = config.noisy_labels.rfind(':');
  if (colon != std::string::npos && fs::is_regular_file(config.noisy_labels.substr(0, colon)))
    config.noisy_labels = absolute(config.noisy_labels.substr(0, colon)) + config.noisy_labels.substr(colon);
  const json all = to_json(config);
  json typed = json::object();
  for (const auto& [key, option] : flags.options)
    if (option->count() > 0) typed[key] = all[key];
  return typed;
}

TrainConfig settings_of(const TrainFlags& flags) {
  TrainConfig base;
  if (!flags.config_file.empty()) read_config(flags.config_file, base);
  if (!flags.resume.empty()) {
    if (!flags.out.empty())
      usage_error("--resume goes on in the run's own folder; --out cannot be given with it");
    if (flags.overwrite) usage_error("--resume goes on with the run in its folder; --overwrite replaces it");
    if (!flags.config_file.empty())
      usage_error("--resume takes the run's own settings; --config cannot be given with it");
    check(fs::exists(RunFolder{flags.resume}.config()), "--resume ", flags.resume,
          ": there is no run in this folder (no config.json)");
    read_config(flags.resume, base);
  }
  TrainConfig config = base;
  const json typed = typed_settings(flags);
  from_json(typed, "the command line", config);
  if (config.data != kSampleData && fs::exists(config.data)) config.data = absolute(config.data);
  if (config.sym && typed.contains("sa") && !config.sa)
    usage_error("--sym is a form of self-attention; --no-sa leaves it out: give --no-sym, too");
  config.sa = config.sa || config.sym;
  if (config.activation.empty()) config.activation = default_activation(config.model);
  if (flags.trainer.trace_nan && config.precision == "fp16")
    usage_error(
        "--trace-nan does not go with --precision fp16, where steps that overflow are left out; use bf16");
  validate(config);
  if (!flags.resume.empty()) {
    TrainConfig same_data = config;
    same_data.data = base.data;
    const std::vector<std::string> differing = differing_flags(base, same_data);
    if (!differing.empty())
      usage_error("--resume goes on with the settings of ", flags.resume, "; ", differing.front(),
                  " differs from them: leave it out, or start a new run");
  }
  return config;
}

RunFolder prepare_folder(const TrainFlags& flags) {
  if (!flags.resume.empty()) return {flags.resume};
  if (flags.out.empty()) return make_default_run_folder();
  make_run_folder({flags.out});
  return {flags.out};
}

/// Whose lock is held: nobody adds a run meanwhile.
void check_free(const TrainFlags& flags, const RunFolder& folder, int64_t runs) {
  if (flags.resume.empty() && !flags.overwrite)
    check(!holds_run(folder, runs), folder.path.string(), " holds a run already: go on with it (--resume ",
          folder.path.string(), "), replace it (--overwrite), or give another --out");
}

/// Removes the old run, but not for one that was interrupted in its first step.
void give_way(const RunFolder& folder, int64_t runs = 1) {
  check(interrupted() == 0 || !holds_run(folder, runs), "interrupted in its first step; the run in ",
        folder.path.string(), " is as it was");
  remove_run(folder, runs);
}

void tell_files(const RunFolder& folder, Progress& progress) {
  for (const std::string& file :
       {folder.model(), folder.metrics(), folder.summary(), folder.config(), folder.checkpoint()})
    progress.line("wrote " + file);
}

int tell_interrupted(const RunFolder& folder, Progress& progress) {
  progress.line(fmt::format("stopped; go on with: weft train --resume {}", folder.path.string()));
  progress.event({{"event", "stopped"}, {"resume", folder.path.string()}});
  return kFailed;
}

int train_once(const TrainFlags& flags, const TrainConfig& config, const DataSource& data,
               const RunFolder& folder, Progress& progress) {
  TrainerOptions options = flags.trainer;
  options.resume = !flags.resume.empty();
  if (flags.overwrite) options.before_files = [&] { give_way(folder); };
  const auto summary = train_run(config, data, folder, options, progress);
  if (!summary) return tell_interrupted(folder, progress);
  progress.line(fmt::format("validation accuracy {:.2f} % (best {:.2f} %) in {}",
                            100 * summary->at("final_val_accuracy").get<double>(),
                            100 * summary->at("best_val_accuracy").get<double>(),
                            format_duration(summary->at("seconds").get<double>())));
  tell_files(folder, progress);
  return kDone;
}

/// Mean and standard deviation (of the sample; 0 for one run) over the runs, beside sums and maxima of the
/// rest.
json summary_of_runs(const std::vector<json>& runs) {
  double mean = 0, squares = 0, best = 0, seconds = 0, rate = 0;
  int64_t memory = 0;
  json accuracies = json::array();
  for (const json& run : runs) {
    const double accuracy = run.at("final_val_accuracy");
    accuracies.push_back(accuracy);
    mean += accuracy / double(runs.size());
    best = std::max(best, run.at("best_val_accuracy").get<double>());
    seconds += run.at("seconds").get<double>();
    rate += run.at("images_per_second").get<double>() / double(runs.size());
    memory = std::max(memory, run.at("peak_memory_bytes").get<int64_t>());
  }
  for (const json& a : accuracies) squares += std::pow(a.get<double>() - mean, 2);
  json summary = runs.back();
  summary.update({{"runs", runs.size()},
                  {"mean_val_accuracy", mean},
                  {"std_val_accuracy", runs.size() > 1 ? std::sqrt(squares / double(runs.size() - 1)) : 0.0},
                  {"val_accuracies", accuracies},
                  {"best_val_accuracy", best},
                  {"seconds", seconds},
                  {"images_per_second", rate},
                  {"peak_memory_bytes", memory}});
  return summary;
}

int train_several(const TrainFlags& flags, const TrainConfig& config, const DataSource& data,
                  const RunFolder& folder, Progress& progress) {
  std::vector<json> summaries;
  for (int64_t k = 1; k <= config.runs; ++k) {
    TrainConfig own = config;
    own.runs = 1, own.seed = config.seed + uint64_t(k - 1);
    const RunFolder sub = folder.run(k);
    make_run_folder(sub);
    const RunLock lock(sub);
    if (!flags.resume.empty() && fs::exists(sub.summary())) {
      summaries.push_back(read_summary(sub));
      continue;
    }
    progress.line(fmt::format("run {}/{}, seed {}", k, config.runs, own.seed));
    TrainerOptions options = flags.trainer;
    options.resume = !flags.resume.empty() && fs::exists(sub.config());
    if (k == 1 && flags.resume.empty())
      options.before_files = [&] {
        if (flags.overwrite) give_way(folder, config.runs);
        write_config(folder, config);
      };
    const auto summary = train_run(own, data, sub, options, progress);
    if (!summary) return tell_interrupted(folder, progress);
    summaries.push_back(*summary);
  }
  const json summary = summary_of_runs(summaries);
  write_summary(folder, summary);
  progress.line(fmt::format("validation accuracy {:.2f} % +- {:.2f} over {} runs",
                            100 * summary.at("mean_val_accuracy").get<double>(),
                            100 * summary.at("std_val_accuracy").get<double>(), config.runs));
  progress.event({{"event", "runs"}, {"summary", summary}});
  progress.line("wrote " + folder.summary() + " and run-1 to run-" + std::to_string(config.runs) +
                " beside it");
  return kDone;
}

int train(TrainFlags flags) {
  if (flags.list_models) return list_models(flags.json_lines);
  if (flags.quiet && flags.json_lines)
    usage_error("--quiet prints nothing, and --json a line for each event");
  // Locked before its settings are read: a weft that replaces the run has removed them for a moment.
  std::optional<RunLock> lock;
  if (!flags.resume.empty()) lock.emplace(RunFolder{flags.resume});
  const TrainConfig config = settings_of(flags);
  use_threads(flags.threads);
  if (config.exact) set_exact(true);
  kernels::cuda::set_allow_tf32(!config.exact);
  kernels::cuda::set_deterministic(config.deterministic);
  if (config.device != "cpu") keep_gpu_plans();
  std::optional<ConvTuning> tuning;
  if (config.tune) {
    tuning.emplace();
    flags.trainer.after_checkpoint = [&] { tuning->keep(); };  // a run that goes on makes the same choices
  }
  const InterruptGuard guard;
  Progress progress(flags.json_lines ? Output::json : flags.quiet ? Output::quiet : Output::human);
  const DataSource data = open_training_data(config, progress);
  const RunFolder folder = prepare_folder(flags);
  if (!lock) lock.emplace(folder);
  check_free(flags, folder, config.runs);
  return config.runs == 1 ? train_once(flags, config, data, folder, progress)
                          : train_several(flags, config, data, folder, progress);
}

/// What is wrong with the value of a flag, for CLI11; empty: nothing.
std::string is_given(const std::string& value) {
  return value.empty() ? "it is empty; name something, or leave the flag out" : "";
}

}  // namespace

void add_train(CLI::App& weft, Action& action) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* command = weft.add_subcommand("train", "Trains an image classifier");
  visit_settings(flags->config, [&](const std::string& key, auto& value, const char* help) {
    const std::string flag = flag_of(key);
    CLI::Option* option = nullptr;
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, bool>)
      option = command->add_flag(flag + ",!--no-" + flag.substr(2), value, help);
    else
      option = command->add_option(flag, value, help)->capture_default_str()->take_last();
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, uint64_t>)
      option->check(fits_64_bits);
    flags->options[key] = option;
  });
  command->add_flag("--list-models", flags->list_models,
                    "name the models with their sources, parameters and multiply-adds, and train none");
  command->add_option("--out", flags->out, "folder of the run's files [runs/TIME]")->check(is_given);
  command->add_flag("--overwrite", flags->overwrite, "replace the run that --out holds");
  command->add_option("--resume", flags->resume, "go on with the stopped run in this folder, bit for bit")
      ->check(is_given);
  command
      ->add_option("--config", flags->config_file,
                   "start from a config.json (or its folder); other flags go over it")
      ->check(is_given);
  command
      ->add_option("--checkpoint-steps", flags->trainer.checkpoint_steps,
                   "save a checkpoint also every so many steps")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--cache-bytes", flags->trainer.cache_bytes,
                   "memory for decoded images, which a second epoch need not decode again; 0: none "
                   "[a quarter of what is available]")
      ->check(CLI::NonNegativeNumber);
  command->add_flag(
      "--eager", flags->trainer.eager,
      "on a GPU: start each kernel by itself, not whole steps as a captured graph (the same bits)");
  command->add_flag(
      "--trace-nan", flags->trainer.trace_nan,
      "look at every result and gradient, and name the op, layer and sample of the first that is "
      "not finite (slow)");
  command->add_option("--stop-after-steps", flags->trainer.stop_after_steps)
      ->check(CLI::NonNegativeNumber)
      ->group("");
  add_threads(*command, flags->threads);
  command->add_flag("--quiet", flags->quiet, "print nothing but errors");
  command->add_flag("--json", flags->json_lines, "JSON lines on standard output");
  command->footer(
      "Writes config.json, metrics.csv (seconds and images_per_second are of training alone), summary.json "
      "(seconds are of\n"
      "everything), model.safetensors and checkpoint.safetensors. Ctrl-C or SIGTERM ends after a checkpoint, "
      "with exit code 1.");
  command->final_callback([flags, &action] { action = [flags] { return train(*flags); }; });
}

}  // namespace weft::app
