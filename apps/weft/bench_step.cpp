// weft bench step: whole training steps, or forward passes, beside the machine's multiply-add peak, all
// measured in the same run.
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/names.h"
#include "weft/apps/weft/run_files.h"
#include "weft/engine/allocator.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/profile.h"
#include "weft/engine/random.h"
#include "weft/kernels/convolution.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"
#include "weft/layers/models.h"
#include "weft/layers/summary.h"
#include "weft/optim/registry.h"

namespace weft::app {
namespace {

/// One combination of what the sweep lists, and what was measured of it.
struct StepCase {
  std::string activation;
  int64_t size = 0, batch_size = 0;
  int threads = 0;
  TrainingStep* step = nullptr;  // shared by the cases of one activation: weights change no step's cost
  int64_t multiply_adds = 0;     // of an image, forward
  int passes = 3;                // forward, data gradient, weight gradient; of inference the first
  std::vector<double> seconds = {};

  double gflops() const {
    return passes * 2 * double(multiply_adds) * double(batch_size) / median(seconds) * 1e-9;
  }
};

/// The multiply-add peak for each number of threads; the best of several measurements, because on a busy
/// machine that is nearest to the truth.
class Peaks {
 public:
  void measure(const std::vector<StepCase>& cases) {
    for (const StepCase& c : cases) best_[c.threads];
    for (auto& [threads, peak] : best_) peak = std::max(peak, kernels::measure_fma_peak(threads));
  }
  double of(const StepCase& c) const { return best_.at(c.threads); }

 private:
  std::map<int, double> best_;
};

/// Takes turns: a step of each case, then the next of each.
void measure(std::vector<StepCase>& cases, int64_t steps) {
  constexpr int kWarmup = 3;
  const StepCase* last = nullptr;
  for (int64_t i = -kWarmup; i < steps; ++i) {
    for (StepCase& c : cases) {
      if (!last || c.threads != last->threads) set_num_threads(c.threads);
      c.step->set_images(c.batch_size, c.size);
      if (last && (c.size != last->size || c.batch_size != last->batch_size)) {
        empty_cache();  // blocks of other sizes would only fill the memory;
        (*c.step)();    // an unmeasured step fetches the right ones
      }
      const double seconds = time_calls(std::ref(*c.step), 1, 0).front();
      if (i >= 0) c.seconds.push_back(seconds);
      last = &c;
    }
  }
}

nlohmann::json row_of(const StepCase& c, const StepCase& first, double peak, const BenchFlags& flags) {
  const double middle = median(c.seconds);
  return {{"bench", "step"},
          {"model", flags.model},
          {"activation", c.activation},
          {"sa", flags.sa || flags.sym},
          {"recompute", flags.recompute},
          {"inference", flags.inference},
          {"size", c.size},
          {"batch_size", c.batch_size},
          {"optimizer", flags.optimizer},
          {"threads", c.threads},
          {"kernels", kernels::cpu().name},
          {"precision", flags.precision},
          {"gemm", concat("weft ", kernels::cpu().name)},
          {"conv", conv_algorithm_name(conv_algorithm())},
          {"parameters", c.step->model().num_parameters()},
          {"multiply_adds", c.multiply_adds},
          {"steps", int64_t(c.seconds.size())},
          {"step_seconds", middle},
          {"step_seconds_min", *std::min_element(c.seconds.begin(), c.seconds.end())},
          {"images_per_second", double(c.batch_size) / middle},
          {"effective_gflops", c.gflops()},
          {"peak_gflops", peak},
          {"share_of_peak", c.gflops() / peak},
          {"time_over_first", middle / median(first.seconds)},
          {"gflops_over_first", c.gflops() / first.gflops()},
          {"peak_memory_bytes", peak_memory_bytes()}};
}

}  // namespace

TrainingStep::TrainingStep(const BenchFlags& flags) {
  require_known("--optimizer", flags.optimizer, optim::optimizer_names());
  model_ = bench_model(flags);
  if (flags.inference)
    model_->optimize_for_inference();
  else
    optimizer_ = optim::make_optimizer(flags.optimizer, optim::split_decay(model_->parameters()));
}

void TrainingStep::set_images(int64_t batch, int64_t size) {
  const Shape shape{batch, size, size, 3};
  if (images_.defined() && images_.shape() == shape) return;
  images_ = Tensor::normal(shape);
  labels_ = Tensor::empty({batch}, DType::i64);
  for (int64_t i = 0; i < batch; ++i) labels_.data<int64_t>()[i] = i % 10;
}

void TrainingStep::operator()() {
  if (!optimizer_) {
    (*model_)(images_);
    return;
  }
  const auto lap = [](const char* name) {
    if (Profiler* profiler = Profiler::current()) profiler->lap(name);
  };
  {
    Tape tape;
    tape.backward(cross_entropy((*model_)(images_), labels_, {.label_smoothing = 0.1}));
  }
  lap("rest");
  optimizer_->step();
  lap("optimizer");
  optimizer_->zero_grad();
  lap("rest");
}

int bench_step(const BenchFlags& flags) {
  for (int64_t size : flags.sweep.sizes) require_fitting(flags.model, flags.sa || flags.sym, size);
  if (flags.inference && flags.place.gpu()) usage_error("--inference is measured on the CPU alone");
  if (flags.place.gpu()) return bench_step_gpu(flags);
  if (!flags.breakdown.empty()) return bench_breakdown(flags);
  manual_seed(1);
  std::map<std::pair<std::string, int64_t>, TrainingStep> models;
  std::vector<StepCase> cases;
  for (int64_t size : flags.sweep.sizes)
    for (int64_t batch : flags.sweep.batch_sizes)
      for (const std::string& asked : flags.sweep.activations) {
        BenchFlags one = flags;
        one.activation = asked.empty() ? default_activation(flags.model) : asked;
        one.size = size;
        const std::pair key(one.activation, find_model(flags.model).fixed_size ? size : 0);
        TrainingStep& step = models.try_emplace(key, one).first->second;
        const int64_t multiply_adds = summarize(step.model(), {1, size, size, 3}).multiply_adds();
        for (int threads : flags.sweep.threads)
          cases.push_back({one.activation, size, batch, threads ? threads : num_threads(), &step,
                           multiply_adds, flags.inference ? 1 : 3});
      }
  Peaks peaks;
  peaks.measure(cases);
  measure(cases, flags.steps);
  peaks.measure(cases);

  Rows rows({{"activation", "activation", 10},
             {"size", "px", 4},
             {"batch_size", "batch", 5},
             {"threads", "threads", 7},
             {"milliseconds", "ms", 8},
             {"best_milliseconds", "best", 8},
             {"images_per_second", "images/s", 8},
             {"effective_gflops", "GFLOP/s", 8},
             {"peak_gflops", "peak", 7},
             {"share_of_peak", "of peak", 7, 2},
             {"time_over_first", "time/1st", 8, 3},
             {"gflops_over_first", "rate/1st", 8, 3}},
            flags.json);
  rows.text(fmt::format(
      "{} of {}{}, {}, {}, {} kernels: median of {} and best; GFLOP/s: {} of {:.3f} G multiply-adds an image "
      "at {} px",
      flags.inference ? "forward passes" : "steps", flags.model,
      flags.sa || flags.sym ? " with attention" : "", flags.inference ? "evaluation" : flags.optimizer,
      flags.precision, kernels::cpu().name, flags.steps, flags.inference ? "one pass" : "3 passes",
      double(cases[0].multiply_adds) * 1e-9, cases[0].size));
  for (const StepCase& c : cases) {
    nlohmann::json row = row_of(c, cases.front(), peaks.of(c), flags);
    row["milliseconds"] = row["step_seconds"].get<double>() * 1e3;
    row["best_milliseconds"] = row["step_seconds_min"].get<double>() * 1e3;
    rows.print(row);
  }
  rows.text(fmt::format("peak memory {:.0f} MB", double(peak_memory_bytes()) * 1e-6));
  return kDone;
}

}  // namespace weft::app
