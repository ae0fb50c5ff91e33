#include "weft/optim/training/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "weft/engine/anomaly.h"
#include "weft/engine/file.h"
#include "weft/engine/finite.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/random.h"
#include "weft/optim/training/rows.h"

namespace weft::training {
namespace {

constexpr int64_t kLookEvery = 16;  // steps on a GPU between two looks at the loss
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Loss loss_of(const TrainerOptions& options) {
  if (options.loss) return options.loss;
  return [smoothing = options.label_smoothing](const Tensor& prediction, const Tensor& target) {
    return cross_entropy(prediction, target, {.label_smoothing = smoothing});
  };
}

}  // namespace

Trainer::Trainer(Module& module, optim::Optimizer& optimizer, Batches& train, Batches* valid,
                 const TrainerOptions& options)
    : module_(module),
      optimizer_(optimizer),
      train_(train),
      valid_(valid),
      options_(options),
      device_(device_of(module)),
      step_(module, optimizer, loss_of(options),
            {.dtype = options.precision,
             .clip_grad_norm = options.clip_grad_norm,
             .accumulate = options.accumulate,
             .capture = options.capture && !options.trace_nan}) {
  const std::vector<Parameter> known = module.parameters(), trained = optimizer.parameters();
  check(std::any_of(trained.begin(), trained.end(),
                    [&](const Parameter& p) {
                      return std::any_of(known.begin(), known.end(), [&](const Parameter& of_module) {
                        return of_module.tensor.raw() == p.tensor.raw();
                      });
                    }),
        "trainer: the optimizer has none of the module's parameters, so that nothing would be trained");
  check(train.batches() > 0, "trainer: the training data make no batch");
  check(options.checkpoint_steps >= 0, "trainer: checkpoint_steps is ", options.checkpoint_steps,
        "; it must not be negative");
  check(!options.trace_nan || options.precision != DType::f16,
        "trainer: trace_nan does not go with f16, where scaled gradients overflow and the step is left out; "
        "use bf16 or f32");
  check(options.checkpoint_steps == 0 || !options.checkpoint.empty(),
        "trainer: checkpoint_steps needs a file, `checkpoint`");
  check(std::isfinite(options.label_smoothing) && options.label_smoothing >= 0 && options.label_smoothing < 1,
        "trainer: label_smoothing is ", options.label_smoothing, "; it must be at least 0 and below 1");
  check(options.label_smoothing == 0 || !options.loss,
        "trainer: label_smoothing is of the default loss; a loss of your own smooths by itself");
}

Trainer::Trainer(Module& module, optim::Optimizer& optimizer, Batches& train, const TrainerOptions& options)
    : Trainer(module, optimizer, train, nullptr, options) {}

Trainer::Trainer(Module& module, optim::Optimizer& optimizer, Batches& train, Batches& valid,
                 const TrainerOptions& options)
    : Trainer(module, optimizer, train, &valid, options) {}

double Trainer::total_seconds() const { return earlier_seconds_ + seconds_since(session_); }

void Trainer::fail_not_finite(const char* what, double value) const {
  fail_diverged(concat(what, " is ", value, " after step ", state_.step, " (epoch ", state_.epoch, ")"));
}

void Trainer::fail_diverged(const std::string& where) const {
  const bool saved = !options_.checkpoint.empty() && std::filesystem::exists(options_.checkpoint);
  const bool traceable = !options_.trace_nan && options_.precision != DType::f16;
  throw DivergedError(
      where,
      state_.step > 0 ? concat("try a lower learning rate (it was ",
                               options_.schedule ? optimizer_.initial_lr(0) : optimizer_.lr(0), ")")
                      : concat("no weight had changed yet, so look for it in the data and in the weights",
                               traceable ? "; trace_nan names the op" : ""),
      saved ? "The last good checkpoint is kept: " + options_.checkpoint : "There was no checkpoint yet");
}

void Trainer::take_step() {
  std::optional<DetectAnomaly> tracing;
  if (options_.trace_nan) tracing.emplace(DetectAnomalyOptions{.step = state_.step + 1});
  try {
    step_(train_);
  } catch (const AnomalyError& e) {
    fail_diverged(e.what());
  }
}

bool Trainer::train_batch() {
  // Batches without a single good sample are passed over; the schedule counts them all the same.
  const auto place = [&] { return (state_.epoch - 1) * steps_per_epoch() + train_.position(); };
  if (train_.next_size() == 0) return train_.next().has_value();  // the end, or an error
  state_.batch = train_.position();
  state_.step = place();
  if (options_.schedule) options_.schedule->apply(optimizer_, state_.step, total_steps());
  take_step();
  state_.lr = optimizer_.lr(0);
  // Looking at a GPU's sums waits for it.
  if (device_ == Device::cpu || state_.step % kLookEvery == 0) take_totals();
  state_.batch = train_.position();
  state_.step = place();
  return true;
}

void Trainer::take_totals() {
  const StepTotals totals = step_.take_totals();
  if (!totals.finite)
    fail_diverged(concat("the loss is ", kNaN, " at step ", state_.step + 1, " (epoch ", state_.epoch,
                         ", batch ", state_.batch + 1, " of ", steps_per_epoch(), ")"));
  state_.loss_sum += totals.loss;
  if (!std::isnan(totals.correct)) state_.correct += int64_t(totals.correct);
  state_.samples += int64_t(totals.samples);
}

bool Trainer::train_epoch() {
  if (state_.batch == steps_per_epoch()) {  // stopped between training and validation
    take_totals();
    return true;
  }
  const double before = state_.seconds;
  const Clock::time_point start = Clock::now();
  if (!module_.training()) module_.train();  // parts of one that is in training mode may be frozen
  call(&Callbacks::on_epoch_begin);
  if (stop_) return false;
  train_.begin_epoch(state_.epoch - 1, state_.batch);
  double saving = 0;
  while (train_batch()) {
    state_.seconds = before + seconds_since(start) - saving;
    call(&Callbacks::on_step);
    if (stop_) return false;
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
  state_.skipped = std::max(state_.skipped, int64_t(train_.skipped().size()));
  return true;
}

EvaluateOptions Trainer::evaluate_options() const {
  EvaluateOptions o;
  o.loss = options_.valid_loss ? options_.valid_loss : options_.loss;
  o.metrics = options_.metrics;
  if (o.metrics.empty() && !options_.loss) o.metrics = {accuracy()};
  o.dtype = options_.precision;
  return o;
}

Evaluation Trainer::evaluate() {
  check(valid_ != nullptr,
        "trainer: there are no validation data; give them to the Trainer or to evaluate()");
  return evaluate(*valid_);
}

Evaluation Trainer::evaluate(Batches& batches) {
  return *training::evaluate(module_, batches, evaluate_options());
}

/// What has been trained when validation fails, as where it is stopped in it. The error at hand counts, not
/// one of saving.
void Trainer::keep_epoch() {
  try {
    save();
  } catch (const std::exception&) {
  }
}

/// Nothing where it was stopped.
std::optional<Evaluation> Trainer::validate() {
  if (valid_ == nullptr) return Evaluation{.loss = kNaN};
  EvaluateOptions o = evaluate_options();
  o.each = [&](int64_t done) {
    call(&Callbacks::on_evaluate_batch, done);
    return !stop_;
  };
  std::optional<Evaluation> result;
  try {
    std::optional<DetectAnomaly> tracing;
    if (options_.trace_nan) tracing.emplace();
    result = training::evaluate(module_, *valid_, o);
  } catch (const AnomalyError& e) {
    fail_diverged(
        concat("in the validation after step ", state_.step, " (epoch ", state_.epoch, "): ", e.what()));
  } catch (...) {
    keep_epoch();
    throw;
  }
  if (!result) return result;
  call(&Callbacks::on_evaluate, *result);
  if (!std::isfinite(result->loss)) fail_not_finite("the validation loss", result->loss);
  return result;
}

bool Trainer::validate_epoch() {
  step_.settle();  // here in each run, wherever it was stopped or saved
  const std::optional<Evaluation> result = validate();
  if (!result) return false;
  const EpochResult row{
      .epoch = state_.epoch,
      .train_loss = state_.loss_sum / double(std::max<int64_t>(state_.samples, 1)),
      .valid_loss = result->loss,
      .metrics = result->metrics,
      .lr = state_.lr,
      .seconds = state_.seconds,
      .samples_per_second = state_.seconds > 0 ? double(state_.samples) / state_.seconds : 0};
  state_.history.push_back(row);
  state_.total_train_seconds += state_.seconds;
  state_.total_samples += state_.samples;
  ++state_.epoch;
  state_.batch = state_.samples = state_.correct = 0;
  state_.loss_sum = state_.seconds = 0;
  call(&Callbacks::on_epoch, row);
  save();
  return true;
}

bool Trainer::fit(int64_t epochs) {
  check(epochs >= 1, "trainer: fit(", epochs, "): the number of epochs must be 1 or more");
  epochs_ = epochs;
  stop_ = false;
  call(&Callbacks::on_begin);
  if (!options_.checkpoint.empty() && state_.epoch <= epochs) check_writable(options_.checkpoint);
  while (!stop_ && state_.epoch <= epochs) {
    if (train_epoch() && validate_epoch()) continue;
    save();  // in the middle of an epoch
    break;
  }
  call(&Callbacks::on_end);
  return state_.epoch > epochs;
}

void Trainer::save() {
  if (options_.checkpoint.empty()) return;
  save_checkpoint(options_.checkpoint);
  call(&Callbacks::on_checkpoint);
}

void Trainer::save_checkpoint(const std::string& path) {
  take_totals();
  state_.skipped = std::max(state_.skipped, int64_t(train_.skipped().size()));
  // A checkpoint that cannot be trained on must not take the place of one that can.
  for (const Parameter& p : module_.parameters())
    if (!all_finite(p.tensor)) fail_not_finite("a weight", kNaN);
  state_.random_seed = default_generator().seed();
  state_.random_count = default_generator().count();
  state_.total_seconds = total_seconds();
  const StateDict scaling = step_.state_dict();
  training::save_checkpoint(path, module_, optimizer_, scaling, state_, options_.metadata);
}

void Trainer::load_checkpoint(const std::string& path) {
  state_ =
      training::load_checkpoint(path, module_, optimizer_, step_, steps_per_epoch(), options_.check_metadata);
  default_generator().set_state(state_.random_seed, state_.random_count);
  step_.take_totals();  // of steps that it does not go on from
  earlier_seconds_ = state_.total_seconds;
  session_ = Clock::now();
}

}  // namespace weft::training
