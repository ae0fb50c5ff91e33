#include "weft/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace weft::optim {
namespace {

/// From `start` at 0 to `end` at 1 along half a cosine.
double anneal(double start, double end, double position) {
  return end + (start - end) / 2 * (1 + std::cos(std::numbers::pi * position));
}

void check_part(const char* schedule, const char* option, double value) {
  check(value >= 0 && value <= 1, schedule, ": ", option, " is ", value, "; it must be in [0, 1]");
}

}  // namespace

SchedulePoint Schedule::at(int64_t step, int64_t total) const {
  check(total >= 1 && step >= 0, "schedule: step ", step, " of ", total,
        "; steps count from 0, and there must be one");
  return function_(std::min(step, total), total);
}

void Schedule::apply(Optimizer& optimizer, int64_t step, int64_t total) const {
  const SchedulePoint point = at(step, total);
  for (size_t g = 0; g < optimizer.num_groups(); ++g) {
    optimizer.set_lr(g, optimizer.initial_lr(g) * point.lr_factor);
    if (point.momentum && optimizer.has_momentum(g)) optimizer.set_momentum(g, *point.momentum);
  }
}

Schedule constant() {
  return Schedule([](int64_t, int64_t) { return SchedulePoint{}; });
}

Schedule cosine(const CosineOptions& o) {
  check_part("cosine", "final_factor", o.final_factor);
  return Schedule([o](int64_t step, int64_t total) {
    return SchedulePoint{anneal(1, o.final_factor, double(step) / double(total)), {}};
  });
}

Schedule flat_cosine(const FlatCosineOptions& o) {
  check_part("flat_cosine", "anneal_start", o.anneal_start);
  check_part("flat_cosine", "final_factor", o.final_factor);
  return Schedule([o](int64_t step, int64_t total) {
    const int64_t start = int64_t(o.anneal_start * double(total));
    if (step < start || start == total) return SchedulePoint{};
    return SchedulePoint{anneal(1, o.final_factor, double(step - start) / double(total - start)), {}};
  });
}

Schedule one_cycle(const OneCycleOptions& o) {
  check_part("one_cycle", "pct_start", o.pct_start);
  check(o.div_factor > 0 && o.final_div_factor > 0,
        "one_cycle: div_factor and final_div_factor must be above 0; they are ", o.div_factor, " and ",
        o.final_div_factor);
  check_part("one_cycle", "base_momentum", o.base_momentum);
  check_part("one_cycle", "max_momentum", o.max_momentum);
  return Schedule([o](int64_t step, int64_t total) {
    const double last = double(total - 1), peak = o.pct_start * double(total) - 1,
                 t = std::min(double(step), last);
    const bool rising = t <= peak;
    double position = 1;
    if (rising && peak > 0) position = t / peak;
    if (!rising && last > peak) position = (t - peak) / (last - peak);
    const double low = 1 / o.div_factor, end = low / o.final_div_factor;
    SchedulePoint point{rising ? anneal(low, 1, position) : anneal(1, end, position), {}};
    if (o.cycle_momentum)
      point.momentum = rising ? anneal(o.max_momentum, o.base_momentum, position)
                              : anneal(o.base_momentum, o.max_momentum, position);
    return point;
  });
}

Schedule warmup(Schedule schedule, const WarmupOptions& o) {
  check(o.steps >= 0, "warmup: steps is ", o.steps, "; it must be 0 or more");
  check_part("warmup", "start_factor", o.start_factor);
  return Schedule([schedule = std::move(schedule), o](int64_t step, int64_t total) {
    SchedulePoint point = schedule.at(step, total);
    if (step < o.steps)
      point.lr_factor *= o.start_factor + (1 - o.start_factor) * double(step) / double(o.steps);
    return point;
  });
}

}  // namespace weft::optim
