// Optimizers and schedules by name, for command lines and configurations.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "weft/optim/hyper.h"
#include "weft/optim/optimizer.h"
#include "weft/optim/schedule.h"

namespace weft::optim {

/// Splits by shape: no decay for parameters with at most one dimension, which are those of norm layers,
/// biases and gains.
DecayGroups split_decay(const std::vector<Parameter>& parameters);

/// The names that make_optimizer knows, in alphabetical order of their files: those of optim/optimizers/.
std::vector<std::string> optimizer_names();
/// The formula, source and peculiarities of that one in a few lines. Throws Error where the name is unknown.
std::string_view optimizer_description(std::string_view name);

/// Makes an optimizer with two parameter groups, `groups.decay` with weight decay and `groups.no_decay`
/// without; an empty one is left out. Throws Error with the list of names where the name is unknown, and
/// where there is no parameter at all.
std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const DecayGroups& groups,
                                          const Hyper& hyper = {});

/// The options that a command line sets for any schedule.
struct ScheduleOptions {
  double anneal_start = 0.72;  ///< flat-cosine
  double pct_start = 0.3;      ///< one-cycle
  double div_factor = 10;      ///< one-cycle, as in over9000's runs
  int64_t warmup_steps = 0;    ///< any: a linear rise from 0.001 on
};

/// flat-cosine, one-cycle, cosine, constant.
std::vector<std::string> schedule_names();

/// Throws Error with the list of names where the name is unknown.
Schedule make_schedule(std::string_view name, const ScheduleOptions& options = {});

}  // namespace weft::optim
