#include "weft/apps/weft/run.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/interrupt.h"
#include "weft/apps/weft/losses.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/names.h"
#include "weft/apps/weft/training_parts.h"
#include "weft/apps/weft/version.h"
#include "weft/engine/file.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/summary_writer.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"
#include "weft/optim/registry.h"
#include "weft/optim/training/trainer.h"

namespace weft::app {

using nlohmann::json;

namespace {

/// Of all that the GPU's programs have taken; weft gives nothing back before its end.
int64_t gpu_memory_in_use() {
  return kernels::cuda::device_info().memory_bytes - kernels::cuda::free_memory();
}

/// Throws where the checkpoint at `path`, with that metadata, is of a run with other settings, classes or
/// `pictures`.
void check_same_run(const std::string& path, const training::Metadata& metadata, const TrainConfig& config,
                    const std::vector<std::string>& classes, const std::string& pictures) {
  const auto text = [&](const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::string() : found->second;
  };
  for (const char* key : {"config", "classes"}) check_nesting(path, text(key));
  try {
    TrainConfig saved;
    from_json(json::parse(text("config")), path, saved);
    saved.data = config.data;  // the folder may have moved; the classes below must still agree
    const std::vector<std::string> differing = differing_flags(saved, config);
    check(differing.empty(), path,
          ": the checkpoint is of a run with other settings than this folder's config.json (",
          joined(differing), "); put the files of one run together, or start anew");
    check(json::parse(text("classes")) == json(classes), path,
          ": the checkpoint is of a run with other classes than the data have now");
    check(!metadata.contains("pictures") || text("pictures") == pictures, path,
          ": the checkpoint is of a run on other data, ", text("pictures"), " where there are ", pictures,
          " now; put them back, or start anew");
  } catch (const json::exception&) {
    fail(path, ": the checkpoint is damaged (its state cannot be read)");
  }
}

/// One run: the settings become a model, loaders and a training::Trainer; its callbacks write files and tell
/// how it goes.
class Run {
 public:
  Run(const TrainConfig& config, const DataSource& data, const RunFolder& folder, const RunOptions& options,
      Progress& progress)
      : config_(config),
        folder_(folder),
        options_(options),
        progress_(progress),
        pictures_(fingerprint(data)),
        relabelled_(data.relabelled),
        ignored_(ignored_files(data)),
        parts_(first_settings(), data, options.cache_bytes, progress),
        trainer_(*parts_.model, *parts_.optimizer, *parts_.train, *parts_.val, trainer_options()) {}

  std::optional<json> run();

 private:
  TrainConfig first_settings() const;
  bool goes_on() const { return options_.resume && std::filesystem::exists(folder_.checkpoint()); }
  training::TrainerOptions trainer_options();
  void start();
  bool ended() const;
  void begin_files();
  void begin_events(int64_t purge_step);
  void add_events(const training::EpochResult& row);
  void after_step();
  void after_epoch(const training::EpochResult& row);
  const training::EpochResult& best_epoch() const;
  void after_checkpoint();
  void show_step();
  std::string mend_of_divergence() const;
  json summary() const;
  bool train();

  const char* kernel_set() const { return parts_.device == Device::cuda ? "cuda" : kernels::cpu().name; }
  int64_t total_steps() const { return config_.epochs * parts_.train->batches(); }

  const TrainConfig& config_;
  const RunFolder& folder_;
  const RunOptions& options_;
  Progress& progress_;
  const std::string pictures_;
  const int64_t relabelled_, ignored_;
  const TrainingParts parts_;
  training::Trainer trainer_;
  std::optional<SummaryWriter> events_;
  bool files_begun_ = false, model_written_ = false;  // in this session
  double validation_seconds_ = 0;  // of the last validation, to say how long the rest will take
};

/// The settings that its parts are made with: a run that goes on has weights of its own, and need not find
/// those that it began with.
TrainConfig Run::first_settings() const {
  TrainConfig config = config_;
  if (goes_on()) config.init.clear();
  return config;
}

/// What of the settings the training loop must know.
training::TrainerOptions Run::trainer_options() {
  using training::Trainer;
  return {
      .loss = training_loss(config_),
      .valid_loss = [](const Tensor& logits, const Tensor& labels) { return cross_entropy(logits, labels); },
      .metrics = {training::accuracy()},
      .schedule = optim::make_schedule(config_.schedule, {.anneal_start = config_.anneal_start}),
      .precision = place_of(config_.device, config_.precision).dtype,
      .capture = !options_.eager,
      .trace_nan = options_.trace_nan,
      .checkpoint = folder_.checkpoint(),
      .checkpoint_steps = options_.checkpoint_steps,
      .metadata = {{"config", to_json(config_).dump()},
                   {"classes", json(parts_.info.classes).dump()},
                   {"pictures", pictures_}},
      .check_metadata =
          [this](const training::Metadata& metadata) {
            check_same_run(folder_.checkpoint(), metadata, config_, parts_.info.classes, pictures_);
          },
      .callbacks = {{.on_step = [this](Trainer&) { after_step(); },
                     .on_evaluate_batch =
                         [this](Trainer& trainer, int64_t done) {
                           progress_.note("validating", done, parts_.val->batches());
                           if (interrupted() != 0) trainer.stop();
                         },
                     .on_evaluate =
                         [this](Trainer&, const training::Evaluation& e) { validation_seconds_ = e.seconds; },
                     .on_epoch = [this](Trainer&, const training::EpochResult& row) { after_epoch(row); },
                     .on_checkpoint = [this](Trainer&) { after_checkpoint(); }}}};
}

void Run::start() {
  if (goes_on()) {
    trainer_.load_checkpoint(folder_.checkpoint());
    for (const training::EpochResult& row : trainer_.history())
      check(row.metrics.size() == 1, folder_.checkpoint(), ": the checkpoint is of a run with other metrics");
    note_moved_data(folder_, config_);
    if (options_.after_match) options_.after_match();
    if (!ended()) {
      check(!config_.keep_best || trainer_.history().empty() || std::filesystem::exists(folder_.best()),
            folder_.best(), " is missing, the best weights of the epochs so far; put it back, or start anew");
      write_metrics(folder_, trainer_.history());
      begin_events(trainer_.state().step + 1);
      files_begun_ = true;
    }
  } else if (options_.resume) {
    for (const std::string& result : {folder_.model(), folder_.summary()})
      check(!std::filesystem::exists(result), folder_.checkpoint(),
            " is missing, and to start anew would replace ", result, "; --out with --overwrite does that");
  }
  const int64_t step = trainer_.state().step, classes = int64_t(parts_.info.classes.size());
  const json about = {{"event", "start"},
                      {"model", config_.model},
                      {"parameters", parts_.model->num_parameters()},
                      {"classes", classes},
                      {"train_images", parts_.train->dataset().size()},
                      {"val_images", parts_.val->dataset().size()},
                      {"steps", total_steps()},
                      {"step", step},
                      {"relabelled_images", relabelled_},
                      {"ignored_files", ignored_},
                      {"threads", num_threads()},
                      {"kernels", kernel_set()},
                      {"out", folder_.path.string()}};
  progress_.event(about);
  progress_.line(
      fmt::format("{} ({}{}), {:.2f} M parameters; {} training and {} validation images of {} classes; {} "
                  "px, batch {}; {}, {}, {} kernels",
                  config_.model, config_.activation, config_.sa ? ", attention" : "",
                  double(parts_.model->num_parameters()) * 1e-6, parts_.train->dataset().size(),
                  parts_.val->dataset().size(), classes, config_.size, config_.batch_size, config_.precision,
                  count_of(num_threads(), "thread"), kernel_set()));
  if (!config_.noisy_labels.empty())
    progress_.line(fmt::format("{} of {} training labels are others in {}", relabelled_,
                               parts_.train->dataset().size(), config_.noisy_labels));
  if (step > 0 && !ended()) progress_.line(fmt::format("going on at step {} of {}", step, total_steps()));
}

/// Whether all that the run makes is there already.
bool Run::ended() const {
  const std::string files[] = {folder_.model(), folder_.metrics(), folder_.summary()};
  return trainer_.state().epoch > config_.epochs &&
         std::all_of(std::begin(files), std::end(files),
                     [](const std::string& f) { return std::filesystem::exists(f); });
}

/// A step has shown by now that the run fits its data, its options and this machine.
void Run::begin_files() {
  if (files_begun_) return;
  if (options_.before_files) options_.before_files();
  write_config(folder_, config_);
  write_metrics(folder_, trainer_.history());
  begin_events(0);
  files_begun_ = true;
}

void Run::begin_events(int64_t purge_step) {
  const bool there = options_.resume && std::filesystem::exists(folder_.events());
  if (!options_.tensorboard && !there) return;
  events_.emplace(folder_.path.string(), purge_step);
  events_->add_text("config", "```\n" + to_json(config_).dump(2) + "\n```", trainer_.state().step);
  if (there) return;
  for (const training::EpochResult& row : trainer_.history()) add_events(row);
}

void Run::add_events(const training::EpochResult& row) {
  const std::pair<const char*, double> curves[] = {{"loss/train", row.train_loss},
                                                   {"loss/val", row.valid_loss},
                                                   {"accuracy/val", row.metrics.at(0)},
                                                   {"lr", row.lr},
                                                   {"images_per_second", row.samples_per_second}};
  for (const auto& [tag, value] : curves)
    events_->add_scalar(tag, value, row.epoch * parts_.train->batches());
}

void Run::after_step() {
  begin_files();
  const training::TrainingState& state = trainer_.state();
  if (state.samples > 0) show_step();
  if (interrupted() != 0 || (options_.stop_after_steps > 0 && state.step >= options_.stop_after_steps))
    trainer_.stop();
}

void Run::show_step() {
  const training::TrainingState& state = trainer_.state();
  const double images = double(state.samples), rate = images / std::max(state.seconds, 1e-9);
  const double step_seconds = state.seconds / double(std::max<int64_t>(state.batch, 1));
  progress_.step({.epoch = state.epoch,
                  .epochs = config_.epochs,
                  .step = state.batch,
                  .steps = parts_.train->batches(),
                  .loss = state.loss_sum / images,
                  .accuracy = double(state.correct) / images,
                  .images_per_second = rate,
                  .seconds_left = double(total_steps() - state.step) * step_seconds +
                                  double(config_.epochs - state.epoch + 1) * validation_seconds_});
}

/// The first of those with the best validation accuracy so far.
const training::EpochResult& Run::best_epoch() const {
  return *std::max_element(trainer_.history().begin(), trainer_.history().end(),
                           [](const auto& a, const auto& b) { return a.metrics.at(0) < b.metrics.at(0); });
}

void Run::after_epoch(const training::EpochResult& row) {
  const double accuracy = row.metrics.at(0);
  if (config_.keep_best && best_epoch().epoch == row.epoch)
    save_model(folder_.best(), *parts_.model, parts_.info);
  progress_.line(
      fmt::format("epoch {}/{}  train loss {:.4f}  val loss {:.4f}  val accuracy {:.2f} %  lr {:.2e}  {}  "
                  "{:.1f} images/s",
                  row.epoch, config_.epochs, row.train_loss, row.valid_loss, 100 * accuracy, row.lr,
                  format_duration(row.seconds), row.samples_per_second));
  progress_.event({{"event", "epoch"},
                   {"epoch", row.epoch},
                   {"train_loss", row.train_loss},
                   {"val_loss", row.valid_loss},
                   {"val_accuracy", accuracy},
                   {"lr", row.lr},
                   {"seconds", row.seconds},
                   {"images_per_second", row.samples_per_second}});
  if (events_) add_events(row);
}

void Run::after_checkpoint() {
  if (options_.after_checkpoint) options_.after_checkpoint();
  if (trainer_.state().batch != 0) return;  // in the middle of an epoch
  save_model(folder_.model(), *parts_.model, parts_.info);
  model_written_ = true;
  write_metrics(folder_, trainer_.history());
}

json Run::summary() const {
  const training::TrainingState& state = trainer_.state();
  const training::EpochResult &last = state.history.back(), &best = best_epoch();
  return {{"final_val_accuracy", last.metrics.at(0)},
          {"best_val_accuracy", best.metrics.at(0)},
          {"best_epoch", best.epoch},
          {"final_val_loss", last.valid_loss},
          {"final_train_loss", last.train_loss},
          {"parameters", parts_.model->num_parameters()},
          {"epochs", config_.epochs},
          {"steps", total_steps()},
          {"seconds", trainer_.total_seconds()},
          {"train_seconds", state.total_train_seconds},
          {"images_per_second",
           state.total_train_seconds > 0 ? double(state.total_samples) / state.total_train_seconds : 0.0},
          {"peak_memory_bytes", peak_memory_bytes()},
          {"gpu_memory_bytes", parts_.device == Device::cuda ? gpu_memory_in_use() : 0},
          {"device", config_.device},
          {"device_name", parts_.device == Device::cuda ? kernels::cuda::device_info().name : "cpu"},
          {"skipped_images", state.skipped + int64_t(parts_.val->skipped().size())},
          {"seed", config_.seed},
          {"threads", num_threads()},
          {"kernels", kernel_set()},
          {"weft_version", kVersion},
          {"compiler", __VERSION__}};
}

std::string Run::mend_of_divergence() const {
  const bool traceable =
      !options_.trace_nan && place_of(config_.device, config_.precision).dtype != DType::f16;
  if (trainer_.state().step > 0)
    return concat("try a lower --lr (it was ", config_.lr, ")",
                  traceable ? ", or see with --trace-nan where it begins" : "");
  return concat("no weight had changed yet, so look for it in the data",
                traceable ? "; --trace-nan names the op and the sample" : "");
}

/// What was left out so far is told before an error: it may be its cause.
bool Run::train() {
  try {
    return trainer_.fit(config_.epochs);
  } catch (...) {
    for (data::BatchLoader* loader : {parts_.train.get(), parts_.val.get()}) loader->tell_skipped();
    throw;
  }
}

std::optional<json> Run::run() {
  start();
  if (ended()) {
    progress_.line("the run had ended; nothing is left to do");
    const json result = read_summary(folder_);
    progress_.event({{"event", "end"}, {"summary", result}});
    return result;
  }
  try {
    if (!train()) return std::nullopt;
  } catch (const training::DivergedError& e) {
    throw training::DivergedError(e.where, mend_of_divergence(), e.kept);
  }
  if (!model_written_)
    save_model(folder_.model(), *parts_.model, parts_.info);  // stopped right after the last checkpoint
  const json result = summary();
  write_summary(folder_, result);
  if (options_.after_files) options_.after_files();
  progress_.event({{"event", "end"}, {"summary", result}});
  return result;
}

}  // namespace

std::optional<json> train_run(const TrainConfig& config, const DataSource& data, const RunFolder& folder,
                              const RunOptions& options, Progress& progress) {
  return Run(config, data, folder, options, progress).run();
}

}  // namespace weft::app
