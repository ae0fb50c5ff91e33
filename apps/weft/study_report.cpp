#include "weft/apps/weft/study_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "weft/apps/weft/command.h"
#include "weft/engine/file.h"

namespace weft::app {

using nlohmann::json;

namespace {

const StudyRun* find_run(const Study& study, size_t cell, int64_t run) {
  for (const StudyRun& r : study.runs)
    if (r.cell == cell && r.run == run && !r.diverged) return &r;
  return nullptr;
}

size_t baseline_of(const Study& study, size_t cell) {
  if (study.within.empty()) return 0;
  const auto value = [&](size_t i) { return study.cells[i].settings.at(study.within); };
  size_t first = 0;
  while (value(first) != value(cell)) ++first;
  return first;
}

std::string shown(const json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

/// RFC 4180.
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

json or_null(const std::optional<double>& value) { return value ? json(*value) : json(); }

json interval(const MeanOf& m) {
  return m.half_width ? json{m.mean - *m.half_width, m.mean + *m.half_width} : json();
}

std::string percent(const MeanOf& m, const char* sign) {
  if (m.n == 0) return "-";
  const std::string mean = fmt::format(fmt::runtime(sign), 100 * m.mean);
  return m.half_width ? fmt::format("{} ± {:.2f}", mean, 100 * *m.half_width) : mean;
}

std::string number(const std::optional<double>& value, const char* format, double factor = 1) {
  return value ? fmt::format(fmt::runtime(format), factor * *value) : "-";
}

/// Of a probability.
std::string probability(const std::optional<double>& p) {
  return !p ? "-" : *p < 1e-4 ? "< 0.0001" : fmt::format("{:.4f}", *p);
}

/// The settings of all cells that are not the defaults of weft train, as its flags.
std::string common_flags(const Study& study) {
  const json defaults = to_json(TrainConfig{}), settings = to_json(study.base);
  std::string flags;
  for (const auto& [key, value] : settings.items()) {
    const bool varied = std::any_of(study.axes.begin(), study.axes.end(),
                                    [&key = key](const StudyAxis& axis) { return axis.key == key; });
    if (value == defaults[key] || varied || key == "runs" || key == "seed") continue;
    const std::string flag = flag_of(key);
    if (value.is_boolean())
      flags += value.get<bool>() ? " " + flag : " --no-" + flag.substr(2);
    else
      flags += " " + flag + " " + shell_word(shown(value));
  }
  return flags;
}

std::string table_row(const Study& study, size_t cell, const CellResult& r) {
  std::string row = "|";
  for (const StudyAxis& axis : study.axes) row += " " + shown(study.cells[cell].settings.at(axis.key)) + " |";
  const std::string runs = r.diverged > 0 ? fmt::format("{} + {} diverged", r.accuracy.n, r.diverged)
                                          : std::to_string(r.accuracy.n);
  row += fmt::format(" {} | {} | {} | {} | {} |", runs, percent(r.accuracy, "{:.2f}"),
                     number(r.accuracy.deviation, "{:.2f}", 100),
                     r.accuracy.n > 0 ? fmt::format("{:.4f}", r.loss.mean) : "-",
                     r.accuracy.n > 0 ? fmt::format("{:.1f}", r.seconds.mean) : "-");
  if (r.baseline == cell) return row + " baseline | | | | |\n";
  const PairedDifference& d = r.difference;
  return row + fmt::format(" {} | {} | {} | {} | {} |\n", percent(d, "{:+.2f}"), probability(d.p),
                           probability(r.p_holm), number(d.d_z, "{:+.2f}"), probability(d.p_welch));
}

}  // namespace

std::vector<CellResult> results_of(const Study& study) {
  std::vector<CellResult> results(study.cells.size());
  std::vector<double> p;
  std::vector<size_t> tested;
  for (size_t cell = 0; cell < results.size(); ++cell) {
    CellResult& r = results[cell];
    r.baseline = baseline_of(study, cell);
    std::vector<double> accuracy, loss, seconds, theirs, ours;
    for (int64_t k = 1; k <= study.base.runs; ++k) {
      const StudyRun* const run = find_run(study, cell, k);
      if (!run) continue;
      accuracy.push_back(run->final_accuracy), loss.push_back(run->loss), seconds.push_back(run->seconds);
      r.best_accuracy = std::max(r.best_accuracy, run->best_accuracy);
      const StudyRun* const other = r.baseline == cell ? nullptr : find_run(study, r.baseline, k);
      if (other) theirs.push_back(other->final_accuracy), ours.push_back(run->final_accuracy);
    }
    r.accuracy = mean_of(accuracy), r.loss = mean_of(loss), r.seconds = mean_of(seconds);
    r.difference = paired_difference(theirs, ours);
    if (r.difference.p) p.push_back(*r.difference.p), tested.push_back(cell);
  }
  for (const StudyRun& run : study.runs) results[run.cell].diverged += run.diverged.has_value();
  const std::vector<double> corrected = holm(p);
  for (size_t i = 0; i < tested.size(); ++i) results[tested[i]].p_holm = corrected[i];
  return results;
}

std::vector<std::string> cells_alike(const Study& study) {
  const auto alike = [&](size_t a, size_t b) {
    int64_t both = 0;
    for (int64_t k = 1; k <= study.base.runs; ++k) {
      const StudyRun *const one = find_run(study, a, k), *const other = find_run(study, b, k);
      if (!one && !other) continue;
      if (!one || !other || one->final_accuracy != other->final_accuracy ||
          one->best_accuracy != other->best_accuracy || one->loss != other->loss)
        return false;
      ++both;
    }
    return both > 0;
  };
  std::vector<std::string> sentences;
  for (size_t cell = 1; cell < study.cells.size(); ++cell) {
    size_t first = 0;
    while (first < cell && !alike(first, cell)) ++first;
    if (first == cell) continue;
    const StudyCell &one = study.cells[first], &other = study.cells[cell];
    std::vector<std::string> keys;
    for (const StudyAxis& axis : study.axes)
      if (one.settings.at(axis.key) != other.settings.at(axis.key)) keys.push_back(axis.key);
    sentences.push_back(
        fmt::format("{} and {} ended the same bit for bit, with every seed: what differs between them ({}) "
                    "has no effect.",
                    one.name, other.name, joined(keys)));
  }
  return sentences;
}

std::string results_csv(const Study& study) {
  std::string csv;
  for (const StudyAxis& axis : study.axes) csv += axis.key + ",";
  csv += "seed,final_val_accuracy,best_val_accuracy,val_loss,seconds,diverged\n";
  for (const StudyRun& r : study.runs) {
    for (const StudyAxis& axis : study.axes)
      csv += csv_field(shown(study.cells[r.cell].settings.at(axis.key))) + ",";
    csv += r.diverged ? fmt::format("{},,,,,{}\n", r.seed, csv_field(*r.diverged))
                      : fmt::format("{},{},{},{},{:.3f},\n", r.seed, r.final_accuracy, r.best_accuracy,
                                    r.loss, r.seconds);
  }
  return csv;
}

json study_summary(const Study& study, const std::vector<CellResult>& results) {
  json cells = json::array();
  for (size_t i = 0; i < results.size(); ++i) {
    const CellResult& r = results[i];
    const bool any = r.accuracy.n > 0;
    json cell = {{"name", study.cells[i].name},
                 {"settings", study.cells[i].settings},
                 {"runs", r.accuracy.n},
                 {"diverged", r.diverged},
                 {"mean_val_accuracy", any ? json(r.accuracy.mean) : json()},
                 {"std_val_accuracy", or_null(r.accuracy.deviation)},
                 {"interval", interval(r.accuracy)},
                 {"best_val_accuracy", any ? json(r.best_accuracy) : json()},
                 {"mean_val_loss", any ? json(r.loss.mean) : json()},
                 {"mean_seconds", any ? json(r.seconds.mean) : json()},
                 {"baseline", study.cells[r.baseline].name}};
    if (r.difference.n > 0)
      cell["difference"] = {{"pairs", r.difference.n},
                            {"mean", r.difference.mean},
                            {"interval", interval(r.difference)},
                            {"p", or_null(r.difference.p)},
                            {"p_holm", or_null(r.p_holm)},
                            {"d_z", or_null(r.difference.d_z)},
                            {"p_welch", or_null(r.difference.p_welch)}};
    cells.push_back(cell);
  }
  return {{"title", study.title},    {"runs", study.runs.size()}, {"total_runs", study.total_runs()},
          {"seed", study.base.seed}, {"seeds", study.base.runs},  {"cells", cells}};
}

std::string study_report(const Study& study, const std::vector<CellResult>& results) {
  std::string text = fmt::format("# {}\n\n", study.title);
  const auto ended = int64_t(study.runs.size());
  text += fmt::format("{}: {}, seed", count_of(ended, "run"), count_of(int64_t(study.cells.size()), "cell"));
  text += study.base.runs == 1
              ? fmt::format(" {}.", study.base.seed)
              : fmt::format("s {} to {}.", study.base.seed, study.base.seed + uint64_t(study.base.runs - 1));
  if (const int64_t left = study.total_runs() - ended; left > 0)
    text += fmt::format(" {} {} still to be made.", left, left == 1 ? "is" : "are");
  if (const std::string flags = common_flags(study); !flags.empty())
    text += " In all cells:\n\n```\nweft train" + flags + "\n```";
  text += "\n\n|";
  for (const StudyAxis& axis : study.axes) text += " " + axis.key + " |";
  text +=
      " runs | accuracy, % | deviation | loss | seconds | difference, points | p | p (Holm) | d_z | p "
      "(Welch) |\n|";
  for (size_t i = 0; i < study.axes.size() + 10; ++i) text += "---|";
  text += "\n";
  for (size_t i = 0; i < results.size(); ++i) text += table_row(study, i, results[i]);
  text +=
      "\nAccuracy and loss are those on the validation images after the last epoch, as means over the seeds; "
      "± is half the 95 % confidence interval of the mean (Student's t). ";
  if (study.base.runs == 1)
    text += "With one run of each cell nothing can be said of chance, and there are no statistics.\n";
  else
    text += fmt::format(
        "The difference is to {}, over the seeds that both have. p is of the paired t-test, p (Holm) the "
        "same corrected for all comparisons in this table, d_z Cohen's d of the pairs, p (Welch) of a test "
        "that leaves the pairing out of account; \"-\" where there are too few runs, or no differences "
        "between them, to test.\n",
        study.within.empty() ? "the first cell" : "the first cell with the same " + study.within);
  for (const std::string& sentence : cells_alike(study)) text += "\n" + sentence + "\n";
  bool heading = false;
  for (const StudyRun& r : study.runs) {
    if (!r.diverged) continue;
    if (!std::exchange(heading, true)) text += "\nDiverged, and left out of the means:\n\n";
    text += fmt::format("- {}, seed {}: {}\n", study.cells[r.cell].name, r.seed, *r.diverged);
  }
  return text;
}

void write_report(const StudyFolder& folder, const Study& study) {
  const std::vector<CellResult> results = results_of(study);
  write_file(folder.results(), results_csv(study));
  write_file(folder.summary(), study_summary(study, results).dump(2) + "\n");
  write_file(folder.report(), study_report(study, results));
  write_file(folder.plot(), plot_study(study, results).svg());
}

}  // namespace weft::app
