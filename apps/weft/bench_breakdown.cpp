// weft bench step --breakdown: where the time of a training step goes, by op or by layer, pass by pass.
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/engine/profile.h"
#include "weft/engine/random.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"

namespace weft::app {
namespace {

using Pass = ProfileEvent::Pass;

const char* name_of(Pass pass) {
  return pass == Pass::forward ? "forward" : pass == Pass::backward ? "backward" : "other";
}

/// The pass as a whole; what is outside of both keeps its name.
std::string by_pass(const ProfileEvent& e) { return e.pass == Pass::other ? e.op : "all"; }

template <class T>
T the_one(const char* flag, const std::vector<T>& values) {
  if (values.size() != 1) usage_error(flag, ": --breakdown looks at one case; give one value");
  return values.front();
}

}  // namespace

BenchFlags one_case(BenchFlags flags) {
  flags.activation = the_one("--activation", flags.sweep.activations);
  flags.size = the_one("--size", flags.sweep.sizes);
  flags.batch_size = the_one("--batch-size", flags.sweep.batch_sizes);
  flags.threads = the_one("--threads", flags.sweep.threads);
  return flags;
}

void print_breakdown(const BenchFlags& flags, const std::vector<ProfileEvent>& events, double peak,
                     const std::string& where, const nlohmann::json& fields) {
  double seconds = 0;
  for (const ProfileEvent& e : events) seconds += e.seconds;
  const double steps = double(flags.steps);
  Rows rows({{"name", flags.breakdown == "ops" ? "op" : "layer", 30},
             {"pass", "pass", 9},
             {"calls", "calls", 6},
             {"milliseconds", "ms", 9, 2},
             {"share_of_step", "of step", 7, 3},
             {"gflops", "GFLOP/s", 8},
             {"share_of_peak", "of peak", 7, 2}},
            flags.json);
  rows.text(fmt::format("a step of {}{}, {} px, batch {}, {}: {:.1f} ms, mean of {}; {}", flags.model,
                        flags.sa || flags.sym ? " with attention" : "", flags.size, flags.batch_size,
                        flags.optimizer, seconds / steps * 1e3, flags.steps, where));
  const auto print = [&](const ProfileRow& r) {
    nlohmann::json row = {{"bench", "step"},
                          {"breakdown", flags.breakdown},
                          {"name", r.name},
                          {"pass", name_of(r.pass)},
                          {"calls", r.calls / flags.steps},
                          {"milliseconds", r.seconds / steps * 1e3},
                          {"share_of_step", r.seconds / seconds},
                          {"step_milliseconds", seconds / steps * 1e3},
                          {"peak_gflops", peak}};
    row.update(fields);
    if (r.multiply_adds > 0) {
      const double gflops = 2.0 * double(r.multiply_adds) / r.seconds * 1e-9;
      row["gflops"] = gflops;
      row["share_of_peak"] = gflops / peak;
    }
    rows.print(row);
  };
  for (const ProfileRow& row : total(events, by_pass)) print(row);
  const bool by_ops = flags.breakdown == "ops";
  std::vector<ProfileRow> details = total(events, by_ops ? by_op : by_layer);
  std::erase_if(details, [](const ProfileRow& r) { return r.pass == Pass::other; });  // printed above
  if (by_ops)
    std::stable_sort(details.begin(), details.end(),
                     [](const ProfileRow& a, const ProfileRow& b) { return a.seconds > b.seconds; });
  for (const ProfileRow& row : details) print(row);
}

int bench_breakdown(const BenchFlags& asked) {
  const BenchFlags flags = one_case(asked);
  use_threads(flags.threads);
  manual_seed(1);
  TrainingStep step(flags);
  step.set_images(flags.batch_size, flags.size);
  double peak = kernels::measure_fma_peak(num_threads());
  time_calls(std::ref(step), 3, 0);
  Profiler profiler;
  for (int64_t i = 0; i < flags.steps; ++i) step();
  const std::vector<ProfileEvent> events = profiler.events();
  peak = std::max(peak, kernels::measure_fma_peak(num_threads()));
  print_breakdown(flags, events, peak,
                  fmt::format("{}, {} threads, {} kernels, multiply-add peak {:.1f} GFLOP/s", flags.precision,
                              num_threads(), kernels::cpu().name, peak),
                  nlohmann::json::object());
  return kDone;
}

}  // namespace weft::app
