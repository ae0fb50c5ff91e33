#include "weft/apps/weft/run_flags.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>
#include <type_traits>
#include <vector>

#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/settings.h"
#include "weft/kernels/convolution.h"
#include "weft/kernels/cuda.h"

namespace weft::app {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

/// From the root; short where no link stands in the way.
std::string absolute(const std::string& path) {
  const fs::path whole = fs::absolute(path), brief = whole.lexically_normal();
  std::error_code none;
  return (fs::equivalent(whole, brief, none) ? brief : whole).string();
}

void anchor_data(TrainConfig& config) {
  std::error_code error;
  if (config.data != kSampleData && fs::exists(config.data, error)) config.data = absolute(config.data);
  if (fs::exists(config.init, error)) config.init = absolute(config.init);
}

/// A message that begins with a flag, as one on the file at `path` where that is what has this value.
std::string on_file(const std::string& path, const TrainConfig& config, const std::string& message) {
  std::error_code error;
  if (!fs::exists(path, error)) return message;
  const json file = read_json(path), settings = to_json(config);
  const size_t end = message.find_first_of(" :");
  for (const auto& [key, value] : settings.items())
    if (message.substr(0, end) == flag_of(key) && file.contains(key) && file[key] == value)
      return concat(path, ": \"", key, "\"", message.substr(end));
  return message;
}

/// Throws UsageError for a momentum that the schedule would set aside. A run that goes on was made with it.
void check_momentum(const TrainConfig& config, const RunFlags& flags) {
  if (config.schedule != "one-cycle" || !flags.resume.empty()) return;
  if (config.mom != flags.preset.mom || flags.options.at("mom")->count() > 0)
    usage_error("--mom ", config.mom,
                ": --schedule one-cycle has a momentum of its own, .95 to .85 and back; leave it out, or "
                "take another schedule");
}

const auto not_negative = number_from(0, std::numeric_limits<double>::infinity(), "0 or more");

}  // namespace

std::string is_given(const std::string& value) {
  return value.empty() ? "it is empty; name something, or leave the flag out" : "";
}

void anchor_paths(TrainConfig& config) {
  anchor_data(config);
  // A file that is not here lies beside train/ in the data, and its name stays as it is: in a config.json,
  // too.
  const size_t colon = config.noisy_labels.rfind(':');
  std::error_code error;
  if (colon != std::string::npos && fs::is_regular_file(config.noisy_labels.substr(0, colon), error))
    config.noisy_labels = absolute(config.noisy_labels.substr(0, colon)) + config.noisy_labels.substr(colon);
}

json typed_settings(const RunFlags& flags) {
  TrainConfig config = flags.config;
  anchor_paths(config);
  const json all = to_json(config);
  json typed = json::object();
  for (const auto& [key, option] : flags.options)
    if (option->count() > 0) typed[key] = all[key];
  return typed;
}

void check_resume_flags(const RunFlags& flags) {
  if (!flags.out.empty())
    usage_error("--resume goes on in the run's own folder; --out cannot be given with it");
  if (flags.overwrite) usage_error("--resume goes on with the run in its folder; --overwrite replaces it");
  if (!flags.config_file.empty())
    usage_error("--resume takes the run's own settings; --config cannot be given with it");
}

TrainConfig merged_settings(const RunFlags& flags, TrainConfig base) {
  if (!flags.config_file.empty()) read_config(flags.config_file, base);
  const json typed = typed_settings(flags);
  from_json(typed, "the command line", base);
  anchor_data(base);
  if (base.sym && typed.contains("sa") && !base.sa)
    usage_error("--sym is a form of self-attention; --no-sa leaves it out: give --no-sym, too");
  return base;
}

void complete(TrainConfig& config, const RunFlags& flags) {
  try {
    config.sa = config.sa || config.sym;
    if (config.activation.empty()) config.activation = default_activation(config.model);
    if (flags.run.trace_nan && config.precision == "fp16")
      usage_error(
          "--trace-nan does not go with --precision fp16, where steps that overflow are left out; use bf16");
    validate(config);
    check_momentum(config, flags);
  } catch (const UsageError& e) {
    const std::string& settings = flags.resume.empty() ? flags.config_file : flags.resume;
    throw UsageError(on_file(config_file(settings), config, e.what()));
  }
}

void check_same_settings(const RunFlags& flags, const TrainConfig& saved, TrainConfig wanted) {
  wanted.data = saved.data;
  const std::vector<std::string> differing = differing_flags(saved, wanted);
  if (!differing.empty())
    usage_error("--resume goes on with the settings of ", flags.resume, "; ", differing.front(),
                " differs from them: leave it out, or start anew");
}

Output output_of(const RunFlags& flags) {
  if (flags.quiet && flags.json_lines)
    usage_error("--quiet prints nothing, and --json a line for each event");
  return flags.json_lines ? Output::json : flags.quiet ? Output::quiet : Output::human;
}

std::unique_ptr<ConvTuning> set_up_process(RunFlags& flags, const TrainConfig& config) {
  use_threads(flags.threads);
  if (config.exact) set_exact(true);
  kernels::cuda::set_deterministic(config.deterministic);
  if (config.device != "cpu") keep_gpu_plans();
  if (!config.tune) return nullptr;
  auto tuning = std::make_unique<ConvTuning>();
  // A run that goes on makes the same choices.
  flags.run.after_checkpoint = [tuning = tuning.get()] { tuning->keep(); };
  return tuning;
}

void add_setting_flags(CLI::App& command, RunFlags& flags) {
  visit_settings(flags.config, [&](const std::string& key, auto& value, const std::string& help, auto&&...) {
    const std::string flag = flag_of(key);
    CLI::Option* option = nullptr;
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, bool>)
      option =
          command.add_flag(flag + ",!--no-" + flag.substr(2), value, help + (value ? " [on]" : " [off]"));
    else
      option = command.add_option(flag, value, help)->capture_default_str()->take_last();
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, uint64_t>)
      option->check(fits_64_bits);
    flags.options[key] = option;
  });
  command
      .add_option("--config", flags.config_file,
                  "start from a config.json (or its folder); other flags go over it")
      ->check(is_given);
  command
      .add_option("--cache-bytes", flags.run.cache_bytes,
                  "memory for decoded images, which a second epoch need not decode again; 0: none [a quarter "
                  "of what is available]")
      ->check(not_negative);
  add_threads(command, flags.threads);
  command.add_flag("--quiet", flags.quiet, "print nothing but errors");
  command.add_flag("--json", flags.json_lines, "JSON lines on standard output");
}

void hide_flags(const RunFlags& flags, std::initializer_list<const char*> keys) {
  for (const char* key : keys) flags.options.at(key)->group("");
}

void add_run_flags(CLI::App& command, RunFlags& flags, const std::string& what) {
  add_setting_flags(command, flags);
  command.add_option("--out", flags.out, "folder of the " + what + "'s files [runs/TIME]")->check(is_given);
  command.add_flag("--overwrite", flags.overwrite, "replace the " + what + " that --out holds");
  command
      .add_option("--resume", flags.resume, "go on with the stopped " + what + " in this folder, bit for bit")
      ->check(is_given);
  command
      .add_option("--checkpoint-steps", flags.run.checkpoint_steps,
                  "save a checkpoint also every so many steps")
      ->check(not_negative);
  command.add_flag("--tensorboard", flags.run.tensorboard,
                   "write the numbers of each epoch also as events for TensorBoard, beside the others");
  command.add_flag(
      "--eager", flags.run.eager,
      "on a GPU: start each kernel by itself, not whole steps as a captured graph (the same bits)");
  command.add_flag("--trace-nan", flags.run.trace_nan,
                   "look at every result and gradient, and name the op, layer and sample of the first that "
                   "is not finite (slow)");
  command.add_option("--stop-after-steps", flags.run.stop_after_steps)->check(not_negative)->group("");
}

}  // namespace weft::app
