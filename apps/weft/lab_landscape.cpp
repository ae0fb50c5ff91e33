// weft lab landscape and output-landscape: what a network looks like from outside.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/evaluation_source.h"
#include "weft/apps/weft/interrupt.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/lab.h"
#include "weft/apps/weft/landscape.h"
#include "weft/apps/weft/names.h"
#include "weft/apps/weft/statistics.h"
#include "weft/engine/file.h"
#include "weft/engine/random.h"

namespace weft::app {

using nlohmann::json;

namespace {

struct LossFlags {
  EvaluationFlags evaluation;
  int64_t images = 256;
  int points = 21;
  double range = 1;
  uint64_t seed = 42;
  std::string csv, plot;
  bool json_lines = false;
};

struct OutputFlags {
  std::vector<std::string> names = {"mish", "relu"};
  int64_t runs = 5;
  int points = 201;
  double range = 10;
  uint64_t seed = 42;
  std::string plot;
  int threads = 0;
  bool json_lines = false;
};

/// CLI11's ranges let "nan" pass.
void require_finite(double range) {
  if (!std::isfinite(range)) usage_error("--range must be a number, got ", range);
}

/// Smallest and largest of the finite values.
std::pair<double, double> extremes(const Grid& grid) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double v : grid.values)
    if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
  return {low, high};
}

/// `count` levels between the extremes, closer together by `power` where the values are low.
std::vector<double> levels_of(double low, double high, int count, double power) {
  std::vector<double> levels;
  for (int k = 1; k <= count; ++k)
    levels.push_back(low + (high - low) * std::pow(double(k) / (count + 1), power));
  return levels;
}

std::string landscape_csv(const LossLandscape& l, double range) {
  const int points = l.loss.rows;
  std::string text = "x,y,loss,accuracy\n";
  const auto place = [&](int k) { return coordinate(k, points, range); };
  for (int row = 0; row < points; ++row)
    for (int column = 0; column < points; ++column)
      text += fmt::format("{:.6g},{:.6g},{:.9g},{:.6f}\n", place(column), place(row), l.loss.at(row, column),
                          l.accuracy.at(row, column));
  return text;
}

/// A finite number, or its name.
json json_number(double v) { return std::isfinite(v) ? json(v) : json(fmt::format("{}", v)); }

/// d^2 loss / dx^2 in the middle, along a row of the grid or (true) a column.
double curvature(const Grid& loss, bool up, double step) {
  const int middle = loss.rows / 2;
  const auto at = [&](int k) { return up ? loss.at(middle + k, middle) : loss.at(middle, middle + k); };
  return (at(1) - 2 * at(0) + at(-1)) / (step * step);
}

int draw_loss(const LossFlags& flags) {
  if (flags.points % 2 == 0)
    usage_error("--points ", flags.points,
                " has no middle, where the weights themselves are; give an odd number");
  require_finite(flags.range);
  if (!flags.plot.empty()) Drawing::require_known_ending(flags.plot);
  for (const std::string& file : {flags.csv, flags.plot})
    if (!file.empty()) check_writable(file);
  const InterruptGuard guard;
  Progress progress(flags.json_lines ? Output::json : Output::human);
  const EvaluationSource source = open_evaluation(flags.evaluation, progress);
  Module& model = *source.loaded.module;
  const auto go_on = [] { return interrupted() == 0; };
  const auto batches = pick_batches(*source.loader, source.label_map, flags.images, go_on);
  check(go_on(), "interrupted; nothing was written");
  Generator generator(flags.seed);
  const auto first = filter_normalized_direction(model.parameters(), generator);
  const auto second = filter_normalized_direction(model.parameters(), generator);
  const auto landscape =
      loss_landscape(model, batches, first, second, flags.range, flags.points, [&](int done) {
        progress.note("trying weights", done, int64_t(flags.points) * flags.points);
        return go_on();
      });
  progress.clear();
  check(landscape.has_value(), "interrupted; nothing was written");
  const Grid& loss = landscape->loss;
  const int middle = flags.points / 2;
  const double here = loss.at(middle, middle), step = 2 * flags.range / (flags.points - 1);
  check(std::isfinite(here), flags.evaluation.model, ": the model's loss is ", here,
        "; its weights are damaged");
  const auto [low, high] = extremes(loss);
  int64_t images = 0;
  for (const LabelledBatch& batch : batches) images += batch.target.numel();
  if (!flags.csv.empty()) write_file(flags.csv, landscape_csv(*landscape, flags.range));
  if (!flags.plot.empty())
    write_file(
        flags.plot,
        plot_contours({{.title = "loss around the weights",
                        .remark = fmt::format("{:.4f} in the middle, {:.4f} to {:.4f}", here, low, high),
                        .grid = loss,
                        .levels = levels_of(low, high, 14, 2)}},
                      -flags.range, flags.range)
            .encode(flags.plot));
  const json row = {{"images", images},
                    {"loss", here},
                    {"accuracy", landscape->accuracy.at(middle, middle)},
                    {"lowest_loss", low},
                    {"highest_loss", high},
                    {"curvature_first", json_number(curvature(loss, false, step))},
                    {"curvature_second", json_number(curvature(loss, true, step))}};
  if (flags.json_lines) {
    fmt::print("{}\n", one_line(row));
    return kDone;
  }
  fmt::print("loss {:.4f} at the weights, {:.4f} to {:.4f} around them ({} images)\n", here, low, high,
             images);
  fmt::print("curvature {:.4g} and {:.4g} along the two directions\n", curvature(loss, false, step),
             curvature(loss, true, step));
  for (const std::string& file : {flags.csv, flags.plot})
    if (!file.empty()) fmt::print("wrote {}\n", file);
  return kDone;
}

int draw_outputs(const OutputFlags& flags) {
  if (!flags.plot.empty()) Drawing::require_known_ending(flags.plot);
  const std::vector<std::string> known = activation_names();
  for (const std::string& name : flags.names) require_known("--names", name, known);
  require_finite(flags.range);
  if (!flags.plot.empty()) check_writable(flags.plot);
  use_threads(flags.threads);
  const std::pair<const char*, double OutputLandscape::*> numbers[] = {
      {"variation", &OutputLandscape::variation},
      {"lipschitz", &OutputLandscape::lipschitz},
      {"gradient_lipschitz", &OutputLandscape::gradient_lipschitz}};
  if (!flags.json_lines)
    fmt::print("{:16} {:>22} {:>22} {:>22}\n", flags.runs > 1 ? "+- std deviation" : "", numbers[0].first,
               numbers[1].first, numbers[2].first);
  std::vector<ContourField> fields;
  for (const std::string& name : flags.names) {
    std::vector<double> values[std::size(numbers)];
    int64_t shapeless = 0;
    for (int64_t k = 0; k < flags.runs; ++k) {
      const OutputLandscape l =
          output_landscape(*find_activation(name), flags.seed + uint64_t(k), flags.range, flags.points);
      if (k == 0)
        fields.push_back({.title = name,
                          .remark = fmt::format("{:.3g} to {:.3g}", l.low, l.high),
                          .grid = l.output,
                          .levels = levels_of(l.low, l.high, 12, 1)});
      // A ReLU at the end may be 0 everywhere.
      const bool shaped = std::isfinite(l.high - l.low) && l.high > l.low;
      shapeless += !shaped;
      for (size_t i = 0; shaped && i < std::size(numbers); ++i) values[i].push_back(l.*numbers[i].second);
    }
    json row = {{"name", name}, {"runs", flags.runs}, {"constant_or_not_finite", shapeless}};
    std::string line = fmt::format("{:16}", name);
    for (size_t i = 0; i < std::size(numbers); ++i) {
      const MeanOf m = mean_of(values[i]);
      const std::string what = numbers[i].first;
      row[what] = m.n > 0 ? json(m.mean) : json();
      row[what + "_std"] = m.deviation ? json(*m.deviation) : json();
      line += m.n == 0      ? fmt::format(" {:>22}", "-")
              : m.deviation ? fmt::format(" {:>12.4g} +-{:>7.2g}", m.mean, *m.deviation)
                            : fmt::format(" {:>12.4g} {:>9}", m.mean, "");
    }
    if (shapeless > 0)
      line += fmt::format("  ({} of {} outputs are constant or not finite)", shapeless, flags.runs);
    fmt::print("{}\n", flags.json_lines ? one_line(row) : line);
  }
  if (flags.plot.empty()) return kDone;
  write_file(flags.plot, plot_contours(fields, -flags.range, flags.range).encode(flags.plot));
  if (!flags.json_lines) fmt::print("wrote {}\n", flags.plot);
  return kDone;
}

/// --points, --range, --seed and --plot, which both have.
template <class Flags>
void add_shared(CLI::App& command, Flags& flags, int most, const char* range, const char* seed) {
  command.add_option("--points", flags.points, "points in each direction")
      ->check(CLI::Range(3, most))
      ->capture_default_str();
  command.add_option("--range", flags.range, range)->check(CLI::Range(1e-6, 1e6))->capture_default_str();
  command.add_option("--seed", flags.seed, seed)->check(fits_64_bits)->capture_default_str();
  command.add_option("--plot", flags.plot, "draw contour lines into this .svg or .png");
  command.add_flag("--json", flags.json_lines, "JSON lines on standard output");
}

}  // namespace

void add_lab_landscape(CLI::App& lab, Action& action) {
  auto flags = std::make_shared<LossFlags>();
  CLI::App* command = lab.add_subcommand("landscape", "The loss of a trained model around its weights");
  add_evaluation_flags(*command, flags->evaluation);
  command->add_option("--images", flags->images, "pictures, evenly spread over the split")
      ->check(CLI::Range(int64_t{1}, int64_t{100'000'000}))
      ->capture_default_str();
  add_shared(*command, *flags, 1001, "how far from the weights; 1 is as far as the weights are from 0",
             "of the two directions");
  command->add_option("--csv", flags->csv, "write x,y,loss,accuracy of each point into this file");
  command->footer(
      "Two random directions, each filter scaled to the norm of the model's own (Li et al. 2018, arXiv\n"
      "1712.09913). Batch norm keeps its running statistics. curvature: the loss's second difference\n"
      "over steps of 2 range / (points - 1).");
  command->final_callback([flags, &action] { action = [flags] { return draw_loss(*flags); }; });
}

void add_lab_output_landscape(CLI::App& lab, Action& action) {
  auto flags = std::make_shared<OutputFlags>();
  CLI::App* command = lab.add_subcommand("output-landscape",
                                         "How smooth the output of an untrained network is, by activation");
  command->add_option("--names", flags->names, "activations [mish,relu]")->delimiter(',');
  command
      ->add_option("--runs", flags->runs, "sets of weights, the same for each activation; the first is drawn")
      ->check(CLI::Range(int64_t{1}, int64_t{10'000}))
      ->capture_default_str();
  add_shared(*command, *flags, 1001, "the square that the two inputs span", "of the first set of weights");
  add_threads(*command, flags->threads);
  command->footer(
      "Linear 2-64-32-16-1 with the activation behind each layer, as in the Mish paper's picture. Outputs "
      "are\n"
      "divided by the difference of their extremes. variation: mean slope; lipschitz: largest slope;\n"
      "gradient_lipschitz: largest change of the slope between neighbouring points, by their distance.");
  command->final_callback([flags, &action] { action = [flags] { return draw_outputs(*flags); }; });
}

}  // namespace weft::app
