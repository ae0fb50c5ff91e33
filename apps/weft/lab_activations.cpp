// weft lab activations: the catalogue, and what is true of it.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/certify.h"
#include "weft/apps/weft/interrupt.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/lab.h"
#include "weft/apps/weft/names.h"
#include "weft/apps/weft/plot.h"
#include "weft/apps/weft/progress.h"
#include "weft/engine/file.h"
#include "weft/kernels/activation.h"

namespace weft::app {
namespace {

struct Flags {
  bool list = false, certify = false, json_lines = false;
  std::string plot;
  std::vector<std::string> names, isas;
  std::vector<double> range = {-5, 5};
  uint64_t stride = 1;
  int threads = 0;
};

/// Those of --names, or all.
std::vector<Activation> chosen_activations(const std::vector<std::string>& names) {
  std::vector<Activation> chosen;
  const std::vector<std::string> known = activation_names();
  for (const std::string& name : names) {
    require_known("--names", name, known);
    chosen.push_back(*find_activation(name));
  }
  for (int i = 0; names.empty() && i < kAllActivationCount; ++i) chosen.push_back(Activation(i));
  return chosen;
}

int list_activations(const Flags& flags) {
  for (const Activation act : chosen_activations(flags.names)) {
    const std::string_view name = activation_name(act), text = activation_description(act);
    const double param = activation_default_param(act);
    nlohmann::json row{{"name", name}, {"parameter", param}, {"description", text}};
    std::string remark = param == 0 ? "" : fmt::format(" [parameter {}]", param);
    for (const LearnedParameter& p : activation_parameters(act)) {
      row["learned"][std::string(p.name)] = p.start;
      remark += fmt::format(" [{} learned, from {}]", p.name, p.start);
    }
    if (flags.json_lines)
      fmt::print("{}\n", row.dump());
    else
      fmt::print("{}{}\n", text, remark);
  }
  return kDone;
}

/// Those of --isa, or all instruction sets of this machine.
std::vector<const kernels::KernelTable<float>*> chosen_tables(const std::vector<std::string>& isas) {
  std::vector<const kernels::KernelTable<float>*> tables;
  std::vector<std::string> known;
  for (const auto* table : kernels::all_cpu_tables()) known.emplace_back(table->name);
  for (const std::string& isa : isas) require_known("--isa", isa, known);
  for (const auto* table : kernels::all_cpu_tables())
    if (isas.empty() ? table->name != std::string_view("reference")
                     : std::find(isas.begin(), isas.end(), table->name) != isas.end())
      tables.push_back(table);
  return tables;
}

/// Rounded up, so that it is a bound.
std::string bound(double ulp) {
  return std::isinf(ulp) ? "inf" : fmt::format("{:.2f}", std::ceil(ulp * 100 - 1e-9) / 100 + 0.0);
}

void print_table(const std::vector<Certificate>& of_one) {
  const auto columns = [&](Worst Certificate::*part) {
    const Certificate* worst = &of_one[0];
    std::string text;
    double near_zero = 0;
    int64_t nan_blocks = 0;
    for (const Certificate& c : of_one) {
      text += fmt::format(" {:>8}", bound((c.*part).ulp));
      if ((c.*part).ulp > (worst->*part).ulp) worst = &c;
      near_zero = std::max(near_zero, (c.*part).near_zero);
      nan_blocks += (c.*part).nan_blocks;
    }
    const std::string zero = near_zero > 0 ? fmt::format("{:.1e}", near_zero) : "";
    return text + fmt::format("  {:>12}  {:>7}{}", fmt::format("{:.6g}", (worst->*part).at), zero,
                              nan_blocks ? " NaN!" : "");
  };
  fmt::print("{:16} {}  |{}\n", activation_name(of_one[0].act), columns(&Certificate::value),
             columns(&Certificate::slope));
}

void print_json(const Certificate& c, uint64_t stride) {
  const auto part = [](const Worst& w) {
    const auto number = [](double v) {
      return std::isfinite(v) ? nlohmann::json(v) : nlohmann::json(fmt::format("{}", v));
    };
    return nlohmann::json{{"ulp", number(w.ulp)},     {"at", number(double(w.at))},
                          {"exact", number(w.exact)}, {"found", number(double(w.found))},
                          {"near_zero", w.near_zero}, {"nan_blocks", w.nan_blocks}};
  };
  fmt::print("{}\n", nlohmann::json{{"name", activation_name(c.act)},
                                    {"isa", c.table->name},
                                    {"stride", stride},
                                    {"parameters", parameters_text(c.act)},
                                    {"value", part(c.value)},
                                    {"slope", part(c.slope)}}
                         .dump());
}

int certify_activations(const Flags& flags) {
  const std::vector<Activation> activations = chosen_activations(flags.names);
  const auto tables = chosen_tables(flags.isas);
  use_threads(flags.threads);
  const InterruptGuard guard;
  Progress progress(flags.json_lines ? Output::json : Output::human);
  if (!flags.json_lines) {
    for (const Activation act : activations)
      if (!is_fixed(act))
        progress.line(fmt::format("{} with {}{}", activation_name(act), parameters_text(act),
                                  is_learned(act) ? ", where training starts" : ""));
    std::string isas;
    for (const auto* table : tables) isas += fmt::format(" {:>8}", table->name);
    const std::string head = fmt::format("{}  {:>12}  {:>7}", isas, "worst at", "near 0");
    progress.line(fmt::format("{:16} {}  | {}", "", "value: error in ulp", "slope: error in ulp"));
    progress.line(fmt::format("{:16} {}  |{}", "", head, head));
  }
  bool right = true;
  for (size_t i = 0; i < activations.size(); ++i) {
    const std::string doing =
        fmt::format("{} ({} of {})", activation_name(activations[i]), i + 1, activations.size());
    const std::vector<Certificate> found =
        certify(activations[i], tables, flags.stride, [&](int64_t done, int64_t of) {
          progress.note(doing, done * 100 / of, 100);
          return interrupted() == 0;
        });
    progress.clear();
    if (found.empty()) fail("interrupted during ", activation_name(activations[i]));
    for (const Certificate& c : found) {
      if (flags.json_lines) print_json(c, flags.stride);
      for (const Worst* w : {&c.value, &c.slope})
        right = right && w->nan_blocks == 0 && std::isfinite(w->ulp);
    }
    if (!flags.json_lines) print_table(found);
    std::fflush(stdout);
  }
  check(right, "some infinities or NaN are not where they should be");
  return kDone;
}

int plot(const Flags& flags) {
  Drawing::require_known_ending(flags.plot);
  const double low = flags.range[0], high = flags.range[1];
  // Wide enough for doubles to tell its samples apart.
  if (!(high - low >= 1e-6 * std::max(std::abs(low), std::abs(high)) && std::abs(low) <= 1e6 &&
        std::abs(high) <= 1e6))
    usage_error("--range ", low, ",", high, ": give LOW,HIGH with LOW < HIGH, between -1e6 and 1e6");
  const std::vector<Activation> activations = chosen_activations(flags.names);
  write_file(flags.plot, plot_activations(activations, low, high).encode(flags.plot));
  if (flags.json_lines)
    fmt::print("{}\n", one_line({{"file", flags.plot}, {"activations", activations.size()}}));
  else
    fmt::print("drew {} activation{} into {}\n", activations.size(), activations.size() == 1 ? "" : "s",
               flags.plot);
  return kDone;
}

int run(const Flags& flags) {
  if (flags.list + flags.certify + !flags.plot.empty() != 1)
    usage_error("lab activations: give one of --list, --plot FILE and --certify");
  if (flags.list) return list_activations(flags);
  if (!flags.plot.empty()) return plot(flags);
  return certify_activations(flags);
}

}  // namespace

void add_lab_activations(CLI::App& lab, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = lab.add_subcommand("activations", "The activation functions");
  command->add_flag("--list", flags->list, "all of them with formula, source and default parameter");
  command->add_option("--plot", flags->plot,
                      "FILE.svg or FILE.png: draws value, derivative and second derivative");
  command->add_flag("--certify", flags->certify,
                    "the largest errors of value and slope over all 2^32 floats, on each instruction set");
  command->add_option("--names", flags->names, "some of them: mish,relu [all]")->delimiter(',');
  command->add_option("--range", flags->range, "plot: LOW,HIGH of x [-5,5]")->delimiter(',')->expected(2);
  command->add_option("--isa", flags->isas, "certify: avx512, avx2, neon, baseline, reference [all but that]")
      ->delimiter(',');
  command->add_option("--stride", flags->stride, "certify: every N-th float only")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 31))
      ->capture_default_str();
  add_threads(*command, flags->threads);
  command->add_flag("--json", flags->json_lines, "JSON lines");
  command->footer(
      "Each name works with weft train --activation. Plots and certificates are of the default parameters, "
      "of learned ones where training starts, and of rrelu in evaluation, with its mean slope.");
  command->final_callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace weft::app
