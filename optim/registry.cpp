#include "weft/optim/registry.h"

#include <utility>

#include "weft/optim/optimizer_entries.h"
#include "weft/optim/optimizer_list.h"

namespace weft::optim {
namespace {

struct NamedOptimizer {
  const char* name;
  const char* description;
  std::unique_ptr<Optimizer> (*make)(const DecayGroups&, const Hyper&);
};
const NamedOptimizer kOptimizers[] = {WEFT_OPTIMIZER_ENTRIES};

struct NamedSchedule {
  const char* name;
  Schedule (*make)(const ScheduleOptions&);
};

const NamedSchedule kSchedules[] = {
    {"flat-cosine", [](const ScheduleOptions& o) { return flat_cosine({.anneal_start = o.anneal_start}); }},
    {"one-cycle",
     [](const ScheduleOptions& o) {
       return one_cycle({.pct_start = o.pct_start, .div_factor = o.div_factor});
     }},
    {"cosine", [](const ScheduleOptions&) { return cosine(); }},
    {"constant", [](const ScheduleOptions&) { return constant(); }},
};

template <class Table>
std::vector<std::string> names(const Table& table) {
  std::vector<std::string> all;
  for (const auto& entry : table) all.push_back(entry.name);
  return all;
}

/// The entry of that name; an Error with all names where there is none.
template <class Table>
const auto& look_up(const char* what, const Table& table, std::string_view name) {
  for (const auto& entry : table)
    if (name == entry.name) return entry;
  fail("unknown ", what, " '", name, "'; it must be one of ", joined(names(table)));
}

}  // namespace

DecayGroups split_decay(const std::vector<Parameter>& parameters) {
  DecayGroups groups;
  for (const Parameter& p : parameters) (p.tensor.ndim() > 1 ? groups.decay : groups.no_decay).push_back(p);
  return groups;
}

std::vector<std::string> optimizer_names() { return names(kOptimizers); }

std::string_view optimizer_description(std::string_view name) {
  return look_up("optimizer", kOptimizers, name).description;
}

std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const DecayGroups& groups,
                                          const Hyper& hyper) {
  const NamedOptimizer& entry = look_up("optimizer", kOptimizers, name);
  check(!groups.decay.empty() || !groups.no_decay.empty(), name, ": there is no parameter to train");
  return entry.make(groups, hyper);
}

std::vector<std::string> schedule_names() { return names(kSchedules); }

Schedule make_schedule(std::string_view name, const ScheduleOptions& options) {
  Schedule schedule = look_up("schedule", kSchedules, name).make(options);
  if (options.warmup_steps == 0) return schedule;
  return warmup(std::move(schedule), {.steps = options.warmup_steps, .start_factor = 1e-3});
}

}  // namespace weft::optim
