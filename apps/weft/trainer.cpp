#include "weft/apps/weft/trainer.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "weft/apps/weft/evaluation.h"
#include "weft/apps/weft/interrupt.h"
#include "weft/apps/weft/memory.h"
#include "weft/apps/weft/mixup.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/names.h"
#include "weft/apps/weft/train_step.h"
#include "weft/apps/weft/version.h"
#include "weft/engine/random.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"
#include "weft/kernels/philox.h"
#include "weft/optim/registry.h"

namespace weft::app {

using nlohmann::json;

namespace {

constexpr int64_t kLookEvery = 16;             // steps on a GPU between two looks at the loss
constexpr uint64_t kMixupStream = 0x6d697875;  // "mixu": apart from the other streams of the seed

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

ModelInfo info_of(const TrainConfig& c, const DataSource& data) {
  return {.model = c.model,
          .activation = c.activation,
          .sa = c.sa,
          .sym = c.sym,
          .size = c.size,
          .valid_resize = c.valid_resize,
          .classes = data.train.classes(),
          .normalize = {},
          .recompute = c.recompute};
}

/// Preparing pictures costs a few percent of training on them; one thread in four keeps well ahead.
int loader_threads() { return std::clamp(num_threads() / 4, 1, 16); }

data::LoaderOptions loader_options(const TrainConfig& c, bool train, int64_t cache_bytes,
                                   Progress& progress) {
  data::LoaderOptions o;
  o.size = int(c.size);
  o.batch_size = int(c.batch_size);
  o.train = o.drop_last = train;
  o.min_scale = c.min_scale;
  o.resize = int(c.valid_resize);
  o.seed = c.seed;
  o.threads = loader_threads();
  o.strict = c.strict;
  o.cache_bytes = cache_bytes;
  o.warn = [&progress](const std::string& text) {
    progress.clear();
    fmt::print(stderr, "weft: {}\n", text);
  };
  return o;
}

/// The model seeded by the run's seed. manual_seed comes before, so that all that is drawn later follows from
/// it too.
std::unique_ptr<Module> seeded_model(const TrainConfig& c, const ModelInfo& info, Device device) {
  manual_seed(c.seed);
  auto model = build_model(info);
  model->to(device);
  return model;
}

/// Mixup for the loader: a pure function of the seed and the place of the batch in the run.
data::BatchOptions batch_options(const TrainConfig& c, bool train, int64_t steps_per_epoch) {
  data::BatchOptions o;
  o.dtype = parse_precision(c.precision);
  o.fixed_buffers = true;
  if (!train || c.mixup <= 0) return o;
  o.mixup = [seed = c.seed, alpha = c.mixup, steps_per_epoch](int64_t epoch, int64_t batch,
                                                              std::span<data::Mix> mix) {
    const auto w = kernels::philox(seed, uint64_t(epoch * steps_per_epoch + batch), kMixupStream);
    draw_mixup(alpha, uint64_t(w[0]) << 32 | w[1], mix);
  };
  return o;
}

bool all_finite(const Module& model) {
  for (const Parameter& p : model.parameters()) {
    for (float v : p.tensor.to_vector<float>())
      if (!std::isfinite(v)) return false;
  }
  return true;
}

/// Of all that the GPU's programs have taken; weft gives nothing back before its end.
int64_t gpu_memory_in_use() {
  return kernels::cuda::device_info().memory_bytes - kernels::cuda::free_memory();
}

class Trainer {
 public:
  Trainer(const TrainConfig& config, const DataSource& data, const RunFolder& folder,
          const TrainerOptions& options, Progress& progress)
      : config_(config),
        folder_(folder),
        options_(options),
        progress_(progress),
        info_(info_of(config, data)),
        relabelled_(data.relabelled),
        all_images_(data.train.size() + data.val.size()),
        device_(parse_device(config.device)),
        train_loader_(data::make_batches(
            data.train, loader_options(config, true, cache_share(data.train.size()), progress), device_,
            batch_options(config, true, data.train.size() / config.batch_size))),
        val_loader_(data::make_batches(data.val,
                                       loader_options(config, false, cache_share(data.val.size()), progress),
                                       device_, batch_options(config, false, 0))),
        model_(seeded_model(config, info_, device_)),
        optimizer_(optim::make_optimizer(config.optimizer, optim::split_decay(model_->parameters()),
                                         {.lr = config.lr,
                                          .mom = config.mom,
                                          .sqrmom = config.sqrmom,
                                          .eps = config.eps,
                                          .wd = config.wd})),
        schedule_(optim::make_schedule(config.schedule, {.anneal_start = config.anneal_start})),
        step_(*model_, *optimizer_,
              {.device = device_,
               .dtype = parse_precision(config.precision),
               .label_smoothing = config.label_smoothing,
               .capture = !options.eager}) {
    label_map_.resize(info_.classes.size());
    std::iota(label_map_.begin(), label_map_.end(), int64_t{0});
  }

  std::optional<json> run();

 private:
  void start();
  bool train_epoch();
  bool train_batch();
  void take_totals();
  bool validate_epoch();
  void save();
  bool should_stop() const;
  void show_step();
  void show_epoch(const EpochMetrics& row);
  json summary() const;
  [[noreturn]] void fail_not_finite(const char* what, double value) const;

  const char* kernel_set() const { return device_ == Device::cuda ? "cuda" : kernels::cpu().name; }
  int64_t steps_per_epoch() const { return train_loader_->batches(); }
  /// What `images` of all pictures may take of the cache; nothing where none is seen twice.
  int64_t cache_share(int64_t images) const {
    if (config_.epochs == 1) return 0;
    const int64_t bytes = options_.cache_bytes < 0 ? default_cache_bytes() : options_.cache_bytes;
    return int64_t(double(bytes) * double(images) / double(all_images_));
  }
  int64_t total_steps() const { return config_.epochs * steps_per_epoch(); }
  int64_t classes() const { return int64_t(info_.classes.size()); }

  const TrainConfig& config_;
  const RunFolder& folder_;
  const TrainerOptions& options_;
  Progress& progress_;
  const ModelInfo info_;
  const int64_t relabelled_, all_images_;
  const Device device_;
  std::unique_ptr<data::BatchLoader> train_loader_, val_loader_;
  std::unique_ptr<Module> model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  optim::Schedule schedule_;
  TrainStep step_;
  std::vector<int64_t> label_map_;  // of validation: both splits number the classes alike
  RunState state_;
  bool model_written_ = false;     // in this session
  double validation_seconds_ = 0;  // of the last validation, to say how long the rest will take
  Clock::time_point session_ = Clock::now();
  double earlier_seconds_ = 0;  // of the sessions before this one
};

void Trainer::start() {
  if (options_.resume && std::filesystem::exists(folder_.checkpoint())) {
    StateDict scaling;
    state_ = load_checkpoint(folder_.checkpoint(), config_, info_.classes, *model_, *optimizer_, scaling);
    step_.load_state_dict(scaling);
    check(state_.batch <= steps_per_epoch(), folder_.checkpoint(),
          ": the run had more batches in an epoch than the data make now");
    default_generator().set_state(state_.random_seed, state_.random_count);
    earlier_seconds_ = state_.total_seconds;
  } else {
    write_config(folder_, config_);
  }
  write_metrics(folder_, state_.metrics);
  const json about = {{"event", "start"},
                      {"model", config_.model},
                      {"parameters", model_->num_parameters()},
                      {"classes", classes()},
                      {"train_images", train_loader_->dataset().size()},
                      {"val_images", val_loader_->dataset().size()},
                      {"steps", total_steps()},
                      {"step", state_.step},
                      {"relabelled_images", relabelled_},
                      {"threads", num_threads()},
                      {"kernels", kernel_set()},
                      {"out", folder_.path.string()}};
  progress_.event(about);
  progress_.line(fmt::format(
      "{} ({}{}), {:.2f} M parameters; {} training and {} validation images of {} classes; {} px, "
      "batch {}; {} threads, {} kernels",
      config_.model, config_.activation, config_.sa ? ", attention" : "",
      double(model_->num_parameters()) * 1e-6, train_loader_->dataset().size(), val_loader_->dataset().size(),
      classes(), config_.size, config_.batch_size, num_threads(), kernel_set()));
  if (!config_.noisy_labels.empty())
    progress_.line(fmt::format("{} of {} training labels are others in {}", relabelled_,
                               train_loader_->dataset().size(), config_.noisy_labels));
  if (state_.step > 0) progress_.line(fmt::format("going on at step {} of {}", state_.step, total_steps()));
}

bool Trainer::should_stop() const {
  return interrupted() || (options_.stop_after_steps > 0 && state_.step >= options_.stop_after_steps);
}

void Trainer::fail_not_finite(const char* what, double value) const {
  const bool saved = std::filesystem::exists(folder_.checkpoint());
  fail(what, " is ", value, " at step ", state_.step + 1, " (epoch ", state_.epoch, ", batch ",
       state_.batch + 1, " of ", steps_per_epoch(), "): training diverged; try a lower --lr (it was ",
       config_.lr, "). ",
       saved ? "The last good checkpoint is kept: " + folder_.checkpoint() : "There was no checkpoint yet");
}

bool Trainer::train_batch() {
  // Batches without a single good picture are passed over; the schedule counts them all the same.
  const auto place = [&] { return (state_.epoch - 1) * steps_per_epoch() + train_loader_->position(); };
  if (train_loader_->next_size() == 0) return train_loader_->next().has_value();  // the end, or an error
  state_.batch = train_loader_->position();
  state_.step = place();
  schedule_.apply(*optimizer_, state_.step, total_steps());
  step_(*train_loader_);
  state_.lr = optimizer_->lr(0);
  // Looking at a GPU's sums waits for it.
  if (device_ == Device::cpu || state_.step % kLookEvery == 0) take_totals();
  state_.batch = train_loader_->position();
  state_.step = place();
  return true;
}

void Trainer::take_totals() {
  const StepTotals totals = step_.take_totals();
  if (!totals.finite) fail_not_finite("the loss", std::nan(""));
  state_.loss_sum += totals.loss;
  state_.correct += int64_t(totals.correct);  // under mixup: of the image with the larger weight
  state_.images += int64_t(totals.images);
}

bool Trainer::train_epoch() {
  if (state_.batch == steps_per_epoch()) return true;  // stopped between training and validation
  const double before = state_.seconds;
  const Clock::time_point start = Clock::now();
  model_->train();
  train_loader_->begin_epoch(state_.epoch - 1, state_.batch);
  double saving = 0;
  while (train_batch()) {
    state_.seconds = before + seconds_since(start) - saving;
    if (state_.images > 0) show_step();
    if (should_stop()) {
      save();
      return false;
    }
    if (options_.checkpoint_steps > 0 && state_.step % options_.checkpoint_steps == 0) {
      const Clock::time_point begun = Clock::now();
      save();
      saving += seconds_since(begun);
    }
  }
  take_totals();
  state_.seconds = before + seconds_since(start) - saving;
  state_.batch = steps_per_epoch();
  state_.step = state_.epoch * steps_per_epoch();
  state_.skipped = std::max(state_.skipped, int64_t(train_loader_->skipped().size()));
  return true;
}

bool Trainer::validate_epoch() {
  const Clock::time_point start = Clock::now();
  const auto result = evaluate(*model_, *val_loader_, label_map_, classes(), [&](int64_t done) {
    progress_.note("validating", done, val_loader_->batches());
    return interrupted() == 0;
  });
  if (!result) {
    save();
    return false;
  }
  validation_seconds_ = seconds_since(start);
  if (!std::isfinite(result->loss)) fail_not_finite("the validation loss", result->loss);
  const double images = double(std::max<int64_t>(state_.images, 1));
  const EpochMetrics row{
      .epoch = state_.epoch,
      .train_loss = state_.loss_sum / images,
      .val_loss = result->loss,
      .val_accuracy = result->accuracy,
      .lr = state_.lr,
      .seconds = state_.seconds,
      .images_per_second = state_.seconds > 0 ? double(state_.images) / state_.seconds : 0};
  show_epoch(row);
  state_.metrics.push_back(row);
  state_.total_train_seconds += state_.seconds;
  state_.total_images += state_.images;
  ++state_.epoch;
  state_.batch = state_.images = state_.correct = 0;
  state_.loss_sum = state_.seconds = 0;
  save();
  save_model(folder_.model(), *model_, info_);
  model_written_ = true;
  write_metrics(folder_, state_.metrics);
  return true;
}

void Trainer::save() {
  take_totals();
  // A checkpoint that cannot be trained on must not take the place of one that can.
  if (!all_finite(*model_)) fail_not_finite("a weight", std::nan(""));
  state_.random_seed = default_generator().seed();
  state_.random_count = default_generator().count();
  state_.total_seconds = earlier_seconds_ + seconds_since(session_);
  const StateDict scaling = step_.state_dict();
  save_checkpoint(folder_.checkpoint(), config_, info_.classes, *model_, *optimizer_, scaling, state_);
}

void Trainer::show_step() {
  const double images = double(state_.images), rate = images / std::max(state_.seconds, 1e-9);
  const double step_seconds = state_.seconds / double(std::max<int64_t>(state_.batch, 1));
  progress_.step({.epoch = state_.epoch,
                  .epochs = config_.epochs,
                  .step = state_.batch,
                  .steps = steps_per_epoch(),
                  .loss = state_.loss_sum / images,
                  .accuracy = double(state_.correct) / images,
                  .images_per_second = rate,
                  .seconds_left = double(total_steps() - state_.step) * step_seconds +
                                  double(config_.epochs - state_.epoch + 1) * validation_seconds_});
}

void Trainer::show_epoch(const EpochMetrics& row) {
  progress_.line(
      fmt::format("epoch {}/{}  train loss {:.4f}  val loss {:.4f}  val accuracy {:.2f} %  lr {:.2e}  {}  "
                  "{:.1f} images/s",
                  row.epoch, config_.epochs, row.train_loss, row.val_loss, 100 * row.val_accuracy, row.lr,
                  format_duration(row.seconds), row.images_per_second));
  progress_.event({{"event", "epoch"},
                   {"epoch", row.epoch},
                   {"train_loss", row.train_loss},
                   {"val_loss", row.val_loss},
                   {"val_accuracy", row.val_accuracy},
                   {"lr", row.lr},
                   {"seconds", row.seconds},
                   {"images_per_second", row.images_per_second}});
}

json Trainer::summary() const {
  const auto best =
      std::max_element(state_.metrics.begin(), state_.metrics.end(),
                       [](const auto& a, const auto& b) { return a.val_accuracy < b.val_accuracy; });
  return {{"final_val_accuracy", state_.metrics.back().val_accuracy},
          {"best_val_accuracy", best->val_accuracy},
          {"best_epoch", best->epoch},
          {"final_val_loss", state_.metrics.back().val_loss},
          {"final_train_loss", state_.metrics.back().train_loss},
          {"parameters", model_->num_parameters()},
          {"epochs", config_.epochs},
          {"steps", total_steps()},
          {"seconds", earlier_seconds_ + seconds_since(session_)},
          {"train_seconds", state_.total_train_seconds},
          {"images_per_second",
           state_.total_train_seconds > 0 ? double(state_.total_images) / state_.total_train_seconds : 0.0},
          {"peak_memory_bytes", peak_memory_bytes()},
          {"gpu_memory_bytes", device_ == Device::cuda ? gpu_memory_in_use() : 0},
          {"device", config_.device},
          {"device_name", device_ == Device::cuda ? kernels::cuda::device_info().name : "cpu"},
          {"skipped_images", state_.skipped + int64_t(val_loader_->skipped().size())},
          {"seed", config_.seed},
          {"threads", num_threads()},
          {"kernels", kernel_set()},
          {"weft_version", kVersion},
          {"compiler", __VERSION__}};
}

std::optional<json> Trainer::run() {
  start();
  if (state_.epoch > config_.epochs && std::filesystem::exists(folder_.summary())) {
    progress_.line("the run had ended; nothing is left to do");
    return read_summary(folder_);
  }
  while (state_.epoch <= config_.epochs)
    if (!train_epoch() || !validate_epoch()) return std::nullopt;
  if (!model_written_)
    save_model(folder_.model(), *model_, info_);  // stopped right after the last checkpoint
  const json result = summary();
  write_summary(folder_, result);
  progress_.event({{"event", "end"}, {"summary", result}});
  return result;
}

}  // namespace

std::optional<json> train_run(const TrainConfig& config, const DataSource& data, const RunFolder& folder,
                              const TrainerOptions& options, Progress& progress) {
  return Trainer(config, data, folder, options, progress).run();
}

}  // namespace weft::app
