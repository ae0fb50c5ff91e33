#include "weft/optim/registry.h"

#include <utility>

#include "weft/optim/adam.h"
#include "weft/optim/adamw.h"
#include "weft/optim/lars.h"
#include "weft/optim/lookahead.h"
#include "weft/optim/novograd.h"
#include "weft/optim/radam.h"
#include "weft/optim/ranger.h"
#include "weft/optim/rangerlars.h"
#include "weft/optim/sgd.h"

namespace weft::optim {
namespace {

/// An optimizer of type `Opt`; options(decay) gives the options of a group.
template <class Opt, class MakeOptions>
std::unique_ptr<Opt> build(const DecayGroups& groups, MakeOptions&& options) {
  const bool any_decay = !groups.decay.empty();
  auto optimizer = any_decay ? std::make_unique<Opt>(groups.decay, options(true))
                             : std::make_unique<Opt>(groups.no_decay, options(false));
  if (any_decay && !groups.no_decay.empty()) optimizer->add_group(groups.no_decay, options(false));
  return optimizer;
}

/// Fills in what most options have.
template <class Options>
Options adam_like(const Hyper& h, bool decay, Options o = {}) {
  o.lr = h.lr;
  o.betas = {h.mom, h.sqrmom};
  o.eps = h.eps;
  o.weight_decay = decay ? h.wd : 0;
  return o;
}

template <class Opt, class Options>
std::unique_ptr<Opt> build_adam_like(const DecayGroups& groups, const Hyper& h, const Options& o) {
  return build<Opt>(groups, [&](bool decay) { return adam_like(h, decay, o); });
}

using Make = std::unique_ptr<Optimizer> (*)(const DecayGroups&, const Hyper&);
const std::pair<const char*, Make> kOptimizers[] = {
    {"sgd",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build<SGD>(g, [&](bool decay) {
         return SGDOptions{.lr = h.lr, .momentum = h.mom, .weight_decay = decay ? h.wd : 0};
       });
     }},
    {"adam",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build_adam_like<Adam>(g, h, AdamOptions{});
     }},
    {"adamw",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build_adam_like<AdamW>(g, h, AdamWOptions{});
     }},
    {"radam",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build_adam_like<RAdam>(g, h, RAdamOptions{.decoupled_weight_decay = true});
     }},
    {"lookahead",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return std::make_unique<Lookahead>(build_adam_like<AdamW>(g, h, AdamWOptions{}));
     }},
    {"ranger",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build_adam_like<Ranger>(g, h, RangerOptions{});
     }},
    {"novograd",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build_adam_like<NovoGrad>(g, h, NovoGradOptions{});
     }},
    {"lars",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build<LARS>(g, [&](bool decay) {
         return LARSOptions{.lr = h.lr, .momentum = h.mom, .weight_decay = decay ? h.wd : 0, .adapt = decay};
       });
     }},
    {"rangerlars",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build_adam_like<RangerLars>(g, h, RangerLarsOptions{});
     }},
    {"rangerlars-fixed",
     [](const DecayGroups& g, const Hyper& h) -> std::unique_ptr<Optimizer> {
       return build_adam_like<RangerLars>(g, h, kRangerLarsFixed);
     }},
};

const std::pair<const char*, Schedule (*)(const ScheduleOptions&)> kSchedules[] = {
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
  for (const auto& entry : table) all.push_back(entry.first);
  return all;
}

/// The maker of that name; an Error with all names where there is none.
template <class Table>
auto look_up(const char* what, const Table& table, std::string_view name) {
  std::string known;
  for (const auto& [key, make] : table) {
    if (name == key) return make;
    known += (known.empty() ? "" : ", ") + std::string(key);
  }
  fail("unknown ", what, " '", name, "'; it must be one of ", known);
}

}  // namespace

DecayGroups split_decay(const std::vector<Parameter>& parameters) {
  DecayGroups groups;
  for (const Parameter& p : parameters) (p.tensor.ndim() > 1 ? groups.decay : groups.no_decay).push_back(p);
  return groups;
}

std::vector<std::string> optimizer_names() { return names(kOptimizers); }

std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const DecayGroups& groups,
                                          const Hyper& hyper) {
  const Make make = look_up("optimizer", kOptimizers, name);
  check(!groups.decay.empty() || !groups.no_decay.empty(), name, ": there is no parameter to train");
  return make(groups, hyper);
}

std::vector<std::string> schedule_names() { return names(kSchedules); }

Schedule make_schedule(std::string_view name, const ScheduleOptions& options) {
  Schedule schedule = look_up("schedule", kSchedules, name)(options);
  if (options.warmup_steps == 0) return schedule;
  return warmup(std::move(schedule), {.steps = options.warmup_steps, .start_factor = 1e-3});
}

}  // namespace weft::optim
