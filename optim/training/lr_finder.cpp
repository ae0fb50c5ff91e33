#include "weft/optim/training/lr_finder.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "weft/engine/error.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/random.h"

namespace weft::training {
namespace {

/// What training changes, as it was.
class Before {
 public:
  Before(Module& module, optim::Optimizer& optimizer)
      : module_(module),
        optimizer_(optimizer),
        weights_(clone(module.state_dict())),
        state_(clone(optimizer.state_dict())),
        seed_(default_generator().seed()),
        count_(default_generator().count()),
        training_(module.training()) {
    for (size_t g = 0; g < optimizer.num_groups(); ++g) rates_.push_back(optimizer.lr(g));
  }
  void put_back() {
    module_.load_state_dict(weights_);
    optimizer_.load_state_dict(state_);
    for (size_t g = 0; g < rates_.size(); ++g) optimizer_.set_lr(g, rates_[g]);
    default_generator().set_state(seed_, count_);
    if (!training_) module_.eval();
  }

 private:
  Module& module_;
  optim::Optimizer& optimizer_;
  const StateDict weights_, state_;
  const uint64_t seed_, count_;
  const bool training_;
  std::vector<double> rates_;
};

void check_options(const LrFinderOptions& o) {
  check(o.start_lr > 0 && std::isfinite(o.end_lr) && o.end_lr > o.start_lr, "find_lr: from ", o.start_lr,
        " to ", o.end_lr, "; the rates must be above 0 and rise");
  check(o.steps >= 2, "find_lr: ", o.steps, " steps make no curve; give at least 2");
  check(o.smoothing >= 0 && o.smoothing < 1, "find_lr: smoothing is ", o.smoothing,
        "; it must be at least 0 and below 1");
  check(o.stop_at == 0 || o.stop_at > 1, "find_lr: stop_at is ", o.stop_at,
        "; it must be above 1, or 0 for none");
}

/// The loss of a step on the next batch, of the epoch after this one where it has ended. NaN where it is not
/// finite.
double next_loss(TrainStep& step, Batches& batches, int64_t& epoch) {
  for (bool anew = false;; anew = true) {
    if (step(batches)) break;
    check(!anew, "find_lr: the training data make no batch");
    batches.begin_epoch(++epoch);
  }
  const StepTotals totals = step.take_totals();
  return totals.finite ? totals.loss / totals.samples : std::nan("");
}

LrFinderResult run_test(Module& module, optim::Optimizer& optimizer, Batches& batches,
                        const LrFinderOptions& o) {
  TrainStepOptions step_options = o.step;
  step_options.capture = false;
  const auto plain = [](const Tensor& y, const Tensor& target) { return cross_entropy(y, target); };
  TrainStep step(module, optimizer, o.loss ? o.loss : plain, step_options);
  LrFinderResult result;
  int64_t epoch = 0;
  batches.begin_epoch(epoch);
  double mean = 0, best = 0;
  for (int64_t k = 0; k < o.steps; ++k) {
    const double lr = o.start_lr * std::pow(o.end_lr / o.start_lr, double(k) / double(o.steps - 1));
    for (size_t g = 0; g < optimizer.num_groups(); ++g)
      optimizer.set_lr(g, lr * optimizer.initial_lr(g) / optimizer.initial_lr(0));
    const double loss = next_loss(step, batches, epoch);
    check(k > 0 || std::isfinite(loss), "find_lr: the loss is not finite before anything was changed");
    result.diverged = !std::isfinite(loss);
    if (result.diverged) break;
    mean = o.smoothing * mean + (1 - o.smoothing) * loss;
    const double smoothed = mean / (1 - std::pow(o.smoothing, double(k + 1)));
    result.points.push_back({lr, loss, smoothed});
    best = k == 0 ? smoothed : std::min(best, smoothed);
    result.diverged = o.stop_at > 0 && smoothed > o.stop_at * best;
    if (result.diverged || (o.each && !o.each(k + 1))) break;
  }
  suggest_rates(result, o.steps);
  return result;
}

}  // namespace

void suggest_rates(LrFinderResult& result, int64_t steps) {
  const auto first = std::min(result.points.size(), size_t(steps / 10));
  const auto last = std::max(first, result.points.size() - std::min<size_t>(result.points.size(), 5));
  const std::span<const LrFinderPoint> all(result.points.begin() + int64_t(first),
                                           result.points.begin() + int64_t(last));
  const size_t n = all.size();
  result.considered = int64_t(n);
  if (n < 2) return;
  // longest[i]: how many points a falling sequence has that ends at point i.
  std::vector<size_t> longest(n, 1);
  for (size_t i = 1; i < n; ++i)
    for (size_t j = 0; j < i; ++j)
      if (all[i].smoothed < all[j].smoothed) longest[i] = std::max(longest[i], longest[j] + 1);
  const size_t end = size_t(std::max_element(longest.begin(), longest.end()) - longest.begin());
  // From `length` before its end, as fastai takes it: of a fall from the very first point that is one before.
  const int64_t length = int64_t(longest[end]), start = int64_t(end) - length;
  if (length > 1) result.valley = all[size_t(std::max<int64_t>(start + length / 3 + length / 6, 0))].lr;

  double steepest = 0;  // in the logarithm of the rate, whose steps are all alike
  size_t lowest = 0;
  for (size_t i = 0; i < n; ++i) {
    if (all[i].smoothed < all[lowest].smoothed) lowest = i;
    const double fall = i + 1 < n ? all[i].smoothed - all[i + 1].smoothed : 0;
    if (fall > steepest) steepest = fall, result.steepest = all[i].lr;
  }
  if (lowest > 0) result.minimum = all[lowest].lr / 10;
}

LrFinderResult find_lr(Module& module, optim::Optimizer& optimizer, Batches& batches,
                       const LrFinderOptions& options) {
  check_options(options);
  check(
      optimizer.num_groups() > 0 && optimizer.initial_lr(0) > 0,
      "find_lr: the optimizer's first group needs a learning rate above 0, of which the others have a share");
  Before before(module, optimizer);
  if (!module.training()) module.train();  // parts of one that is in training mode may be frozen
  try {
    LrFinderResult result = run_test(module, optimizer, batches, options);
    before.put_back();
    return result;
  } catch (...) {
    before.put_back();
    throw;
  }
}

}  // namespace weft::training
