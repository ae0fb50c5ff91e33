// Schedules: learning rate and momentum as pure functions of the step.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "weft/optim/optimizer.h"

namespace weft::optim {

/// What a schedule says for one step.
struct SchedulePoint {
  double lr_factor = 1;                 ///< times the learning rate that a group was added with
  std::optional<double> momentum = {};  ///< empty: leave it
};

/// A learning rate over a run of `total` steps, counted from 0. It has no state: a resumed run asks for the
/// step that it is at.
///
///   const optim::Schedule schedule = optim::flat_cosine();
///   for (int64_t step = 0; step < total; ++step) { schedule.apply(opt, step, total); ... opt.step(); }
class Schedule {
 public:
  using Function = std::function<SchedulePoint(int64_t step, int64_t total)>;
  /// Throws Error for an empty function.
  explicit Schedule(Function function) : function_(std::move(function)) {
    check(bool(function_), "schedule: the function is empty");
  }

  /// The values at `step`; past the end those of step == total. Throws Error where step < 0 or total < 1.
  SchedulePoint at(int64_t step, int64_t total) const;
  /// Sets learning rate (initial_lr times the factor) and momentum of every group, the latter where the group
  /// has one.
  void apply(Optimizer& optimizer, int64_t step, int64_t total) const;

 private:
  Function function_;
};

/// Factor 1 throughout.
Schedule constant();

struct CosineOptions {
  double final_factor = 0;
};
/// f + (1 - f) (1 + cos(pi t / T)) / 2 with f = final_factor: torch's CosineAnnealingLR with T_max = T and
/// eta_min = f lr.
Schedule cosine(const CosineOptions& options = {});

struct FlatCosineOptions {
  double anneal_start = 0.72;  ///< part of the run that is flat
  double final_factor = 0;
};
/// 1 for the first s = floor(anneal_start T) steps, then cosine over the rest: f + (1 - f) (1 + cos(pi (t -
/// s) / (T - s))) / 2. (M. Grankin's and L. Wright's fit_flat_cos,
/// https://github.com/lessw2020/Ranger-Mish-ImageWoof-5, fcfit.py, with the number of epochs that is really
/// run in place of its constant 5.) Momentum is left alone.
Schedule flat_cosine(const FlatCosineOptions& options = {});

struct OneCycleOptions {
  double pct_start = 0.3;         ///< part of the run in which the rate rises
  double div_factor = 25;         ///< it starts at lr / div_factor; 10 in over9000's runs
  double final_div_factor = 1e4;  ///< and ends at lr / div_factor / final_div_factor
  bool cycle_momentum = true;
  double base_momentum = 0.85;  ///< at the peak of the rate
  double max_momentum = 0.95;   ///< at both ends
};
/// One cycle (Smith 2018, https://arxiv.org/abs/1803.09820) in fast.ai's cosine form, step for step torch's
/// OneCycleLR with max_lr = the group's rate and total_steps = T: up to step pct_start T - 1 from lr /
/// div_factor to lr, then down until step T - 1; momentum the other way round.
Schedule one_cycle(const OneCycleOptions& options = {});

struct WarmupOptions {
  int64_t steps = 0;
  double start_factor = 1.0 / 3;
};
/// Any schedule times a linear rise from start_factor at step 0 to 1 at `steps`: torch's LinearLR, chained.
/// The schedule keeps its own clock: it is not shifted by the warm-up.
Schedule warmup(Schedule schedule, const WarmupOptions& options);

}  // namespace weft::optim
