// Trainer: the training loop, for a module and data of one's own.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "weft/engine/batches.h"
#include "weft/engine/error.h"
#include "weft/engine/module.h"
#include "weft/optim/optimizer.h"
#include "weft/optim/schedule.h"
#include "weft/optim/training/checkpoint.h"
#include "weft/optim/training/evaluation.h"
#include "weft/optim/training/train_step.h"

namespace weft::training {

class Trainer;

/// Functions that are called while training goes on; each may be left out, and each may call
/// Trainer::stop(). They come in the order: begin, then for each epoch epoch_begin, step after each step,
/// evaluate_batch and evaluate, epoch, checkpoint; at last end.
struct Callbacks {
  std::function<void(Trainer&)> on_begin = {};
  std::function<void(Trainer&)> on_epoch_begin = {};
  /// After a step; state() counts it. On a GPU the sums of state() follow some steps later.
  std::function<void(Trainer&)> on_step = {};
  /// After each batch of the validation, with the number of those done.
  std::function<void(Trainer&, int64_t done)> on_evaluate_batch = {};
  std::function<void(Trainer&, const Evaluation&)> on_evaluate = {};
  /// When an epoch is done with its validation; it is the last one in history() then.
  std::function<void(Trainer&, const EpochResult&)> on_epoch = {};
  /// After a checkpoint was written.
  std::function<void(Trainer&)> on_checkpoint = {};
  /// When fit() returns, stopped or done.
  std::function<void(Trainer&)> on_end = {};
};

struct TrainerOptions {
  Loss loss = {};              ///< default: cross_entropy, with label_smoothing
  double label_smoothing = 0;  ///< of the default loss, in training alone
  Loss valid_loss = {};        ///< default: loss, or cross_entropy
  /// Of validation. Default: accuracy() with the default loss, none with a loss of one's own.
  std::vector<Metric> metrics = {};
  std::optional<optim::Schedule> schedule = {};  ///< none: learning rates stay as they are set
  /// Of activations; see TrainStepOptions::dtype. A module in f64 computes in f64.
  DType precision = DType::f32;
  double clip_grad_norm = 0;  ///< see TrainStepOptions
  int64_t accumulate = 1;     ///< see TrainStepOptions
  bool capture = true;        ///< see TrainStepOptions
  /// Looks at all results and gradients of each step, and names the first that is not finite; see
  /// DetectAnomaly. Slow, without capture, and not with f16, whose scaled gradients may overflow.
  bool trace_nan = false;
  std::string checkpoint = {};   ///< a file that is written after each epoch and when stopped; empty: none
  int64_t checkpoint_steps = 0;  ///< write it also every so many steps; 0: not
  Metadata metadata = {};        ///< texts of one's own in that file
  /// Given the metadata of a checkpoint that is loaded; throws where it is of some other training.
  std::function<void(const Metadata&)> check_metadata = {};
  std::vector<Callbacks> callbacks = {};
};

/// A loss or a weight was no longer finite.
class DivergedError : public Error {
 public:
  DivergedError(const std::string& at, const std::string& mend, const std::string& left)
      : Error(at + ": training diverged; " + mend + ". " + left), where(at), kept(left) {}
  const std::string where;  ///< "the loss is nan at step 12 (epoch 2, batch 2 of 10)"
  const std::string kept;   ///< what there is to go on from
};

/// Trains a module.
///
///     manual_seed(1);
///     Net net;
///     optim::Ranger optimizer(net.parameters(), {.lr = 4e-3});
///     TensorBatches train(x, y), valid(valid_x, valid_y, {.shuffle = false});
///     training::Trainer trainer(net, optimizer, train, valid, {.schedule = optim::flat_cosine()});
///     trainer.fit(5);
///
/// Each step follows from the seeds, the step's number and what the checkpoint holds: training that was
/// stopped anywhere and goes on from its checkpoint ends with the same bits, for any number of threads (on
/// a GPU where kernels::cuda::deterministic()).
/// Module, optimizer and batches must outlive the Trainer, and be on one device; a step on a GPU is captured
/// where the batches have fixed buffers.
class Trainer {
 public:
  /// Throws Error for options that make no sense, and for data without a batch.
  Trainer(Module& module, optim::Optimizer& optimizer, Batches& train, const TrainerOptions& options = {});
  /// The same with data to validate on after each epoch.
  Trainer(Module& module, optim::Optimizer& optimizer, Batches& train, Batches& valid,
          const TrainerOptions& options = {});

  /// Trains until `epochs` epochs are done in all, those before a loaded checkpoint counted. The schedule
  /// spans them. True when they are done, false where a callback stopped it: calling fit() again goes on.
  /// Throws Error before the first step where the checkpoint cannot be written, and DivergedError where a
  /// loss or a weight is no longer finite; the last checkpoint stays as it was. Where validation fails for
  /// another reason, as for data that cannot be read, a checkpoint is written first. A module in evaluation
  /// mode is put into training mode as an epoch begins. In one that is in training mode already, parts stay
  /// as they are: eval() of a part freezes its running statistics and dropout.
  bool fit(int64_t epochs);
  /// On the validation data, or on others. Calls no callbacks.
  Evaluation evaluate();
  Evaluation evaluate(Batches& batches);
  /// Ends fit() after the step, or the batch of validation, that is being done, with a checkpoint where the
  /// options name one. May be called from any thread, and nothing else may while fit() runs; a fit() that has
  /// not begun yet does not see it.
  void stop() { stop_ = true; }

  /// Writes all that going on needs: weights, buffers, the optimizer's state, the place in the epoch, the
  /// default generator, sums and history. Throws Error where the file cannot be written, and DivergedError
  /// where a weight is not finite; an older file stays as it was then.
  void save_checkpoint(const std::string& path);
  /// Goes on from there at the next fit(), which should be given the same number of epochs. Throws Error, and
  /// then changes nothing, where the file is missing, damaged, or of another model, optimizer or number of
  /// batches.
  void load_checkpoint(const std::string& path);

  Module& module() { return module_; }
  optim::Optimizer& optimizer() { return optimizer_; }
  const TrainingState& state() const { return state_; }
  const std::vector<EpochResult>& history() const { return state_.history; }
  int64_t steps_per_epoch() const { return train_.batches(); }
  /// Of the fit() that goes on, or went last.
  int64_t epochs() const { return epochs_; }
  int64_t total_steps() const { return epochs_ * steps_per_epoch(); }
  /// Since the start, with validation and saving; without the time between two sessions.
  double total_seconds() const;
  /// See TrainStep.
  bool captured() const { return step_.captured(); }

 private:
  using Clock = std::chrono::steady_clock;

  Trainer(Module& module, optim::Optimizer& optimizer, Batches& train, Batches* valid,
          const TrainerOptions& options);
  bool train_epoch();
  bool train_batch();
  bool validate_epoch();
  void keep_epoch();
  std::optional<Evaluation> validate();
  EvaluateOptions evaluate_options() const;
  void take_totals();
  void save();
  void take_step();
  [[noreturn]] void fail_not_finite(const char* what, double value) const;
  [[noreturn]] void fail_diverged(const std::string& where) const;
  template <class... Args>
  void call(std::function<void(Trainer&, Args...)> Callbacks::*which, std::type_identity_t<Args>... args) {
    for (const Callbacks& c : options_.callbacks)
      if (c.*which) (c.*which)(*this, args...);
  }

  Module& module_;
  optim::Optimizer& optimizer_;
  Batches& train_;
  Batches* const valid_;
  const TrainerOptions options_;
  const Device device_;
  TrainStep step_;
  TrainingState state_;
  int64_t epochs_ = 0;
  std::atomic<bool> stop_ = false;
  Clock::time_point session_ = Clock::now();
  double earlier_seconds_ = 0;  // of the sessions before this one
};

}  // namespace weft::training
