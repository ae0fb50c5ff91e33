// weft bench step --device cuda: whole training steps, captured as in weft train, beside the rate of matrix
// products that is measured in the same run.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench_gpu.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/names.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/random.h"
#include "weft/layers/summary.h"
#include "weft/optim/registry.h"
#include "weft/optim/training/train_step.h"

namespace weft::app {
namespace {

namespace cuda = kernels::cuda;

/// The same random batch again and again.
class RandomBatch : public Batches {
 public:
  RandomBatch(int64_t batch, int64_t size, DType dtype) : size_(batch) {
    batch_.x = random_on_gpu({batch, size, size, 3}, dtype);
    std::vector<int64_t> labels(size_t(batch), 0);
    for (size_t i = 0; i < labels.size(); ++i) labels[i] = int64_t(i % 10);
    batch_.y = Tensor::from(labels, {batch}).to(Device::cuda);
  }

  int64_t batches() const override { return 1; }
  int64_t batch_size() const override { return size_; }
  void begin_epoch(int64_t, int64_t) override {}
  std::optional<DeviceBatch> next() override { return batch_; }
  int64_t position() const override { return 0; }
  int64_t epoch() const override { return 0; }
  int64_t next_size() override { return size_; }
  bool fixed_buffers() const override { return true; }
  void feed() override {}

 private:
  int64_t size_;
  DeviceBatch batch_;
};

/// One combination of what the sweep lists, and what was measured of it.
struct GpuStepCase {
  GpuStepCase(const BenchFlags& flags, const std::string& activation, int64_t size, int64_t batch);

  /// Forward, data gradient, weight gradient.
  double flops() const { return 3 * 2 * double(multiply_adds) * double(batch_size); }
  double step_seconds() const { return median(seconds); }

  const std::string activation;
  const int64_t size, batch_size;
  const size_t bytes_before = memory_stats(Device::cuda).in_use;
  std::unique_ptr<Module> model;
  int64_t multiply_adds = 0;  // of an image, forward
  std::unique_ptr<optim::Optimizer> optimizer;
  RandomBatch batch;
  training::TrainStep step;
  size_t peak_bytes = 0;
  std::vector<double> seconds = {};  // of a step, each the mean of some in a row
  double host_seconds = 0;           // that the CPU spent on launching them, all together
};

std::unique_ptr<Module> model_of(BenchFlags flags, const std::string& activation, int64_t size) {
  flags.activation = activation;
  flags.size = size;
  return bench_model(flags);
}

GpuStepCase::GpuStepCase(const BenchFlags& flags, const std::string& activation, int64_t size, int64_t batch)
    : activation(activation),
      size(size),
      batch_size(batch),
      model(model_of(flags, activation, size)),
      multiply_adds(summarize(*model, {1, size, size, 3}).multiply_adds()),
      optimizer((model->to(Device::cuda),
                 optim::make_optimizer(flags.optimizer, optim::split_decay(model->parameters())))),
      batch(batch, size, flags.place.dtype),
      step(*model, *optimizer,
           [](const Tensor& x, const Tensor& y) { return cross_entropy(x, y, {.label_smoothing = 0.1}); },
           {.dtype = flags.place.dtype, .capture = flags.place.capture}) {
  // Finds plans for the convolutions, captures, and runs what was captured some times.
  constexpr int kWarmup = 6;
  reset_peak_memory(Device::cuda);
  for (int i = 0; i < kWarmup; ++i) step(this->batch);
  cuda::synchronize();
  peak_bytes = memory_stats(Device::cuda).peak - bytes_before + step.pool_stats().peak;
}

/// Takes turns: some steps of each case, then the next of each. As many in a row as Lookahead has between two
/// of its own, so that each stretch has one of them. Returns the steps measured of each case.
int64_t measure(std::vector<std::unique_ptr<GpuStepCase>>& cases, int64_t steps) {
  constexpr int64_t kInARow = 6;
  const int64_t in_a_row = std::min(kInARow, steps), rounds = (steps + in_a_row - 1) / in_a_row;
  cuda::Timer timer;
  timer.mark();
  for (int64_t round = 0; round < rounds; ++round)
    for (const auto& c : cases) {
      const std::function<void()> step = [&c] { c->step(c->batch); };
      for (double s : time_calls(step, in_a_row, 0)) c->host_seconds += s;
      timer.mark();
    }
  const std::vector<double> times = timer.seconds();
  for (size_t i = 0; i < times.size(); ++i)
    cases[i % cases.size()]->seconds.push_back(times[i] / double(in_a_row));
  return rounds * in_a_row;
}

nlohmann::json row_of(GpuStepCase& c, const GpuStepCase& first, double gemm_rate, int64_t steps,
                      const BenchFlags& flags) {
  const double middle = c.step_seconds(), least = *std::min_element(c.seconds.begin(), c.seconds.end()),
               rate = c.flops() / middle;
  const training::StepTotals totals = c.step.take_totals();
  nlohmann::json row = gpu_fields(flags);
  row.update({{"bench", "step"},
              {"model", flags.model},
              {"activation", c.activation},
              {"sa", flags.sa || flags.sym},
              {"recompute", flags.recompute},
              {"size", c.size},
              {"batch_size", c.batch_size},
              {"optimizer", flags.optimizer},
              {"kernels", "cuda"},
              {"parameters", c.model->num_parameters()},
              {"multiply_adds", c.multiply_adds},
              {"steps", steps},
              {"step_seconds", middle},
              {"step_seconds_min", least},
              {"milliseconds", middle * 1e3},
              {"best_milliseconds", least * 1e3},
              {"host_milliseconds", c.host_seconds / double(steps) * 1e3},
              {"images_per_second", double(c.batch_size) / middle},
              {"effective_gflops", rate * 1e-9},
              {"gemm_gflops", gemm_rate * 1e-9},
              {"share_of_gemm", rate / gemm_rate},
              {"time_over_first", middle / first.step_seconds()},
              {"gflops_over_first", rate / (first.flops() / first.step_seconds())},
              {"graph_nodes", c.step.graph_nodes()},
              {"peak_memory_bytes", c.peak_bytes},
              {"peak_memory_megabytes", double(c.peak_bytes) * 1e-6},
              {"loss", totals.loss / totals.samples}});
  return row;
}

}  // namespace

int bench_step_gpu(const BenchFlags& flags) {
  if (!flags.breakdown.empty()) return bench_breakdown_gpu(flags);
  require_known("--optimizer", flags.optimizer, optim::optimizer_names());
  manual_seed(1);
  double gemm_rate = measure_gpu_gemm_rate(flags.place.dtype);
  std::vector<std::unique_ptr<GpuStepCase>> cases;
  for (int64_t size : flags.sweep.sizes)
    for (int64_t batch : flags.sweep.batch_sizes)
      for (const std::string& asked : flags.sweep.activations)
        cases.push_back(std::make_unique<GpuStepCase>(
            flags, asked.empty() ? default_activation(flags.model) : asked, size, batch));
  const int64_t steps = measure(cases, flags.steps);
  gemm_rate = std::max(gemm_rate, measure_gpu_gemm_rate(flags.place.dtype));

  Rows rows({{"activation", "activation", 10},
             {"size", "px", 4},
             {"batch_size", "batch", 5},
             {"milliseconds", "ms", 8, 2},
             {"best_milliseconds", "best", 8, 2},
             {"host_milliseconds", "CPU ms", 7, 2},
             {"images_per_second", "images/s", 8, 0},
             {"effective_gflops", "GFLOP/s", 8, 0},
             {"share_of_gemm", "of gemm", 7, 2},
             {"time_over_first", "time/1st", 8, 3},
             {"graph_nodes", "nodes", 6},
             {"peak_memory_megabytes", "MB", 7, 0}},
            flags.json);
  rows.text(
      fmt::format("steps of {}{}, {}, {} on {}, {}: median of {} and best; GFLOP/s: 3 passes of {:.3f} G "
                  "multiply-adds an image at {} px; matrix products {:.0f} GFLOP/s",
                  flags.model, flags.sa || flags.sym ? " with attention" : "", flags.optimizer,
                  flags.precision, cuda::device_info().name, flags.place.capture ? "captured" : "eager",
                  steps, double(cases[0]->multiply_adds) * 1e-9, cases[0]->size, gemm_rate * 1e-9));
  for (const auto& c : cases) rows.print(row_of(*c, *cases.front(), gemm_rate, steps, flags));
  return kDone;
}

int bench_breakdown_gpu(const BenchFlags& asked) {
  BenchFlags flags = one_case(asked);
  flags.place.capture = false;
  if (flags.activation.empty()) flags.activation = default_activation(flags.model);
  require_known("--optimizer", flags.optimizer, optim::optimizer_names());
  manual_seed(1);
  const double gemm_rate = measure_gpu_gemm_rate(flags.place.dtype);
  GpuStepCase c(flags, flags.activation, flags.size, flags.batch_size);
  const std::function<void()> step = [&c] { c.step(c.batch); };

  // Copies before each step keep the GPU busy until the CPU has launched most of it.
  constexpr int64_t kBytes = int64_t{64} << 20;
  constexpr double kMostCopies = 256;
  const Tensor from = random_on_gpu({kBytes / 4}, DType::f32),
               to = Tensor::empty(from.shape(), DType::f32, Device::cuda);
  const auto copy = [&] { cuda::copy(to.raw(), from.raw(), kBytes); };
  cuda::Timer timer;
  copy();
  timer.mark();
  copy();
  timer.mark();
  const double seconds_of_copy = timer.seconds().at(0), seconds_to_launch = time_calls(step, 1, 1).at(0);
  const auto copies =
      int64_t(std::min(kMostCopies, 1 + 2 * seconds_to_launch / std::max(seconds_of_copy, 1e-9)));

  constexpr const char* kCopies = "copies";
  Profiler profiler(Device::cuda);
  for (int64_t i = 0; i < flags.steps; ++i) {
    for (int64_t k = 0; k < copies; ++k) copy();
    profiler.lap(kCopies);
    step();
    profiler.lap("optimizer");
  }
  std::vector<ProfileEvent> events = profiler.events();
  std::erase_if(events, [&](const ProfileEvent& e) { return e.op == kCopies; });
  print_breakdown(flags, events, gemm_rate * 1e-9,
                  fmt::format("{} on {}, eager, matrix products {:.0f} GFLOP/s", flags.precision,
                              cuda::device_info().name, gemm_rate * 1e-9),
                  gpu_fields(flags));
  return kDone;
}

}  // namespace weft::app
