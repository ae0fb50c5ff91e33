// Optimizers and schedules by name, for command lines and configurations.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "weft/optim/optimizer.h"
#include "weft/optim/schedule.h"

namespace weft::optim {

/// Parameters that get weight decay and those that do not.
struct DecayGroups {
  std::vector<Parameter> decay, no_decay;
};

/// Splits by shape: no decay for parameters with at most one dimension, which are those of norm layers,
/// biases and gains.
DecayGroups split_decay(const std::vector<Parameter>& parameters);

/// The numbers that a command line sets for any optimizer; the defaults are those of the ImageWoof record.
struct Hyper {
  double lr = 4e-3;
  double mom = 0.95;     ///< momentum, or beta1
  double sqrmom = 0.99;  ///< beta2; unused by sgd and lars
  double eps = 1e-6;     ///< unused by sgd and lars
  double wd = 1e-2;      ///< weight decay of the first group; the second has none
};

/// The names that make_optimizer knows:
/// - sgd: momentum, L2 weight decay;
/// - adam: L2 weight decay; adamw: decoupled weight decay, as all below but where they say otherwise;
/// - radam: threshold 5; lookahead: k 6, alpha 0.5, AdamW inside; ranger: 9.3.19;
/// - novograd: the paper's form, with its own decay;
/// - lars: the decay is in the ratio, which the second group does without;
/// - rangerlars: as published by over9000; rangerlars-fixed: as intended (lessw2020).
std::vector<std::string> optimizer_names();

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
