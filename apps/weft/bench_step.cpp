// weft bench step: a whole training step beside the machine's multiply-add peak, both measured in the same
// run.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/names.h"
#include "weft/apps/weft/run_files.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/random.h"
#include "weft/engine/tape.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"
#include "weft/layers/summary.h"
#include "weft/optim/registry.h"

namespace weft::app {

int bench_step(const BenchFlags& flags) {
  require_known("--optimizer", flags.optimizer, optimizer_names());
  manual_seed(1);
  const auto model = bench_model(flags);
  const auto optimizer = optim::make_optimizer(flags.optimizer, optim::split_decay(model->parameters()));
  const int64_t n = flags.batch_size, classes = 10;
  const int64_t multiply_adds = summarize(*model, {1, flags.size, flags.size, 3}).multiply_adds();
  const Tensor images = Tensor::normal({n, flags.size, flags.size, 3});
  const Tensor labels = Tensor::empty({n}, DType::i64);
  for (int64_t i = 0; i < n; ++i) labels.data<int64_t>()[i] = i % classes;
  const auto step = [&] {
    Tape tape;
    const Tensor loss = cross_entropy((*model)(images), labels, {.label_smoothing = 0.1});
    tape.backward(loss);
    optimizer->step();
    optimizer->zero_grad();
  };
  constexpr int64_t kWarmup = 3;
  // The peak before and after: on a busy machine the better one is nearer to the truth.
  double peak = kernels::measure_fma_peak(num_threads());
  const std::vector<double> seconds = time_calls(step, flags.steps, kWarmup);
  peak = std::max(peak, kernels::measure_fma_peak(num_threads()));

  const double middle = median(seconds), rate = double(n) / middle;
  const double gflops =
      3 * double(multiply_adds) * 2 * rate * 1e-9;  // forward, data gradient, weight gradient
  const std::string activation =
      flags.activation.empty() ? default_activation(flags.model) : flags.activation;
  if (flags.json) {
    const nlohmann::json row = {{"bench", "step"},
                                {"model", flags.model},
                                {"activation", activation},
                                {"sa", flags.sa || flags.sym},
                                {"size", flags.size},
                                {"batch_size", n},
                                {"optimizer", flags.optimizer},
                                {"threads", num_threads()},
                                {"kernels", kernels::cpu().name},
                                {"gemm", concat("weft ", kernels::cpu().name)},
                                {"parameters", model->num_parameters()},
                                {"multiply_adds", multiply_adds},
                                {"steps", flags.steps},
                                {"step_seconds", middle},
                                {"step_seconds_min", *std::min_element(seconds.begin(), seconds.end())},
                                {"images_per_second", rate},
                                {"effective_gflops", gflops},
                                {"peak_gflops", peak},
                                {"share_of_peak", gflops / peak},
                                {"peak_memory_bytes", peak_memory_bytes()}};
    fmt::print("{}\n", row.dump());
  } else {
    fmt::print(
        "{} ({}{}), {} px, batch {}, {}; {} threads, {} kernels (convolutions and matrix products are weft's "
        "own)\n",
        flags.model, activation, flags.sa || flags.sym ? ", attention" : "", flags.size, n, flags.optimizer,
        num_threads(), kernels::cpu().name);
    fmt::print("  step              {:.1f} ms (median of {}, best {:.1f})\n", middle * 1e3, flags.steps,
               *std::min_element(seconds.begin(), seconds.end()) * 1e3);
    fmt::print("  images/s          {:.1f}\n", rate);
    fmt::print("  effective rate    {:.1f} GFLOP/s (3 x {:.3f} G multiply-adds an image)\n", gflops,
               double(multiply_adds) * 1e-9);
    fmt::print("  multiply-add peak {:.1f} GFLOP/s; the step reaches {:.2f} of it\n", peak, gflops / peak);
    fmt::print("  peak memory       {:.0f} MB\n", double(peak_memory_bytes()) * 1e-6);
  }
  return kDone;
}

}  // namespace weft::app
