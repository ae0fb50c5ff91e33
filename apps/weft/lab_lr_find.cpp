// weft lab lr-find: which learning rates a model can be trained with.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/axes.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/interrupt.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/lab.h"
#include "weft/apps/weft/losses.h"
#include "weft/apps/weft/names.h"
#include "weft/apps/weft/run_flags.h"
#include "weft/apps/weft/training_parts.h"
#include "weft/engine/file.h"
#include "weft/optim/training/lr_finder.h"

namespace weft::app {

using nlohmann::json;

namespace {

struct LrFindFlags : RunFlags {
  double start_lr = 1e-7, end_lr = 10;
  int64_t steps = 100;
  std::string csv, plot;
};

struct Suggestion {
  const char* name;
  double training::LrFinderResult::*rate;
  uint32_t colour;
};
constexpr Suggestion kSuggestions[] = {{"valley", &training::LrFinderResult::valley, 0x009e73},
                                       {"steepest", &training::LrFinderResult::steepest, 0xd55e00},
                                       {"minimum", &training::LrFinderResult::minimum, 0xcc79a7}};

std::string rates_csv(const training::LrFinderResult& result) {
  std::string text = "lr,loss,smoothed_loss\n";
  for (const training::LrFinderPoint& p : result.points)
    text += fmt::format("{:.6g},{:.9g},{:.9g}\n", p.lr, p.loss, p.smoothed);
  return text;
}

/// The losses over the logarithm of the rate, and the suggestions.
Drawing plot_rates(const training::LrFinderResult& result) {
  double low = result.points[0].smoothed, high = low;
  for (const training::LrFinderPoint& p : result.points)
    low = std::min({low, p.smoothed, p.loss}), high = std::max(high, p.smoothed);
  high = std::min(high, low + 2 * (result.points[0].smoothed - low) + 0.5);  // the rise at the end is steep
  const double margin = std::max(0.06 * (high - low), 1e-6);
  low -= margin, high += margin;
  const double first = result.points.front().lr, last = result.points.back().lr;
  const Field f{56, 40, 680, 340, first, last, low, high, true};
  Drawing d(f.right() + 24, f.bottom() + 44);
  std::vector<double> powers;
  for (double p = std::ceil(std::log10(first) - 1e-9); p <= std::log10(last) + 1e-9; ++p)
    powers.push_back(std::pow(10, p));
  draw_x_ticks(d, f, powers, 10);
  draw_y_ticks(d, f, ticks(low, high, 8), 10);
  double label = f.left;
  for (const Suggestion& s : kSuggestions) {
    const double rate = result.*s.rate;
    if (rate == 0) continue;
    if (rate >= first) d.line({{f.x(rate), f.top}, {f.x(rate), f.bottom()}}, s.colour, 1.2);
    const std::string text = fmt::format("{} {:.2g}", s.name, rate);
    d.text({label, 24}, text, s.colour, 12);
    label += stroke_text_width(text, 12) + 24;
  }
  const auto curve = [&](double training::LrFinderPoint::*value, uint32_t colour, double width) {
    std::vector<Point> line;
    const auto finish = [&] {
      if (line.size() > 1) d.line(line, colour, width);
      line.clear();
    };
    for (const training::LrFinderPoint& p : result.points) {
      if (p.*value > high || p.*value < low)
        finish();
      else
        line.push_back({f.x(p.lr), f.y(p.*value)});
    }
    finish();
  };
  curve(&training::LrFinderPoint::loss, kAxis, 0.8);
  curve(&training::LrFinderPoint::smoothed, 0x0072b2, 2.2);
  draw_corner(d, f);
  d.text({f.left + f.width / 2, f.bottom() + 34}, "learning rate (x), training loss, smoothed (y)", kInk, 11,
         Anchor::middle);
  return d;
}

int find_rates(LrFindFlags flags) {
  const Output output = output_of(flags);
  if (!flags.plot.empty()) Drawing::require_known_ending(flags.plot);
  if (!(flags.end_lr > flags.start_lr))
    usage_error("--end-lr ", flags.end_lr, " must be above --start-lr ", flags.start_lr);
  if (flags.config.runs > 1)
    usage_error("--runs ", flags.config.runs,
                ": lr-find makes one test; leave it out, or call it with other --seed");
  TrainConfig config = merged_settings(flags, {});
  require_known("--schedule", config.schedule, optim::schedule_names());
  config.schedule = TrainConfig().schedule;  // the test has its own rates, and --mom throughout
  complete(config, flags);
  const std::unique_ptr<ConvTuning> tuning = set_up_process(flags, config);
  for (const std::string& file : {flags.csv, flags.plot})
    if (!file.empty()) check_writable(file);
  const InterruptGuard guard;
  Progress progress(output);
  const DataSource data = open_training_data(config, progress);
  // Pictures are kept where more than one epoch is gone through.
  config.epochs = 1 + (flags.steps - 1) / std::max<int64_t>(data.train.size() / config.batch_size, 1);
  const TrainingParts parts(config, data, flags.run.cache_bytes, progress);
  training::LrFinderOptions options{.loss = training_loss(config),
                                    .start_lr = flags.start_lr,
                                    .end_lr = flags.end_lr,
                                    .steps = flags.steps};
  options.step.dtype = place_of(config.device, config.precision).dtype;
  options.each = [&](int64_t done) {
    progress.note("trying rates", done, flags.steps);
    return interrupted() == 0;
  };
  const training::LrFinderResult result =
      training::find_lr(*parts.model, *parts.optimizer, *parts.train, options);
  progress.clear();
  check(interrupted() == 0, "interrupted; nothing was written");
  check(result.points.size() > 1,
        "the loss was not finite after the first step; try a lower --start-lr (it was ", flags.start_lr, ")");
  if (!flags.csv.empty()) write_file(flags.csv, rates_csv(result));
  if (!flags.plot.empty()) write_file(flags.plot, plot_rates(result).encode(flags.plot));
  json event = {{"event", "lr_find"}, {"diverged", result.diverged}, {"steps", result.points.size()}};
  const std::string none = result.considered > 1
                               ? "the loss does not fall"
                               : fmt::format(
                                     "{} points are too few, where the first tenth of the steps and the last "
                                     "five points do not count; give more --steps",
                                     result.points.size());
  for (const Suggestion& s : kSuggestions) {
    const double rate = result.*s.rate;
    event[s.name] = rate > 0 ? json(rate) : json();
    progress.line(rate > 0 ? fmt::format("{:9} {:.2e}", s.name, rate)
                           : fmt::format("{:9} none: {}", s.name, none));
  }
  progress.event(event);
  for (const std::string& file : {flags.csv, flags.plot})
    if (!file.empty()) progress.line("wrote " + file);
  return kDone;
}

}  // namespace

void add_lab_lr_find(CLI::App& lab, Action& action) {
  auto flags = std::make_shared<LrFindFlags>();
  CLI::App* command =
      lab.add_subcommand("lr-find", "Which learning rates a model can be trained with: the range test");
  command->add_option("--start-lr", flags->start_lr, "first rate")
      ->check(number_from(1e-30, 1e30, "above 0, and 1e30 at most"))
      ->capture_default_str();
  command->add_option("--end-lr", flags->end_lr, "last rate")
      ->check(number_from(1e-30, 1e30, "above 0, and 1e30 at most"))
      ->capture_default_str();
  command->add_option("--steps", flags->steps, "steps from one to the other")
      ->check(CLI::Range(int64_t{2}, int64_t{1'000'000}))
      ->capture_default_str();
  command->add_option("--csv", flags->csv, "write lr,loss,smoothed_loss of each step into this file");
  command->add_option("--plot", flags->plot, "draw the losses into this .svg or .png");
  add_setting_flags(*command, *flags);
  hide_flags(*flags, {"epochs", "schedule", "anneal_start", "lr", "runs", "valid_resize"});
  command->footer(
      "Trains a new model with a rate that rises by the same factor each step, until the smoothed loss is "
      "four\n"
      "times its lowest (L. N. Smith 2015, arXiv 1506.01186). valley: half-way through the longest fall of "
      "the\n"
      "smoothed loss; steepest: where it falls fastest; minimum: a tenth of the rate where it is lowest. All "
      "as\n"
      "fastai's lr_find suggests them. The other flags are those of weft train.");
  command->final_callback([flags, &action] { action = [flags] { return find_rates(*flags); }; });
}

}  // namespace weft::app
