// weft bench optimizer: a step of each, beside the speed at which memory can be copied; Muon's, which is one
// of matrix products, beside the multiply-add peak, or on a GPU the fastest product.
#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench_gpu.h"
#include "weft/apps/weft/bench_op.h"
#include "weft/apps/weft/command.h"
#include "weft/engine/random.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/parallel.h"
#include "weft/optim/registry.h"

namespace weft::app {
namespace {

/// Bytes that a step cannot do without: parameters and state are read and written, gradients are read, and
/// some of them again where norms come first. Lookahead's slow weights are touched only every k-th step and
/// not counted.
int64_t bytes_moved(const optim::Optimizer& optimizer) {
  int64_t bytes = 0;
  for (const Parameter& p : optimizer.parameters()) bytes += (3 + optimizer.moved_again()) * p.tensor.bytes();
  for (const auto& [name, tensor] : optimizer.state_dict())
    if (!name.ends_with("/slow_buffer")) bytes += 2 * tensor.bytes();
  return bytes;
}

void set_random_gradients(Module& model, const BenchPlace& place) {
  for (const Parameter& p : model.parameters())
    p.tensor.set_grad(place.gpu() ? random_on_gpu(p.tensor.shape(), DType::f32)
                                  : Tensor::normal(p.tensor.shape(), 0, 1e-2));
}

std::unique_ptr<optim::Optimizer> make(const std::string& name, Module& model) {
  return optim::make_optimizer(name, optim::split_decay(model.parameters()), {.lr = 1e-6});
}

/// The median seconds of a step. On a GPU what changes from step to step is uploaded first, which counts.
double seconds_of_step(optim::Optimizer& optimizer, double seconds, const BenchPlace& place) {
  if (!place.gpu()) return median(time_for([&] { optimizer.step(); }, seconds));
  GpuPasses passes(place.capture, 1);
  passes.add([&](int64_t) { optimizer.step(); });
  return passes(seconds).front();
}

/// The share of the products' ceiling, which is measured beside it.
nlohmann::json product_rate(double flops, double seconds, bool gpu) {
  const double peak =
      gpu ? measure_gpu_gemm_rate(DType::f32) * 1e-9 : kernels::measure_fma_peak(num_threads());
  return {{"gflops", flops / seconds * 1e-9},
          {gpu ? "gemm_gflops" : "peak_gflops", peak},
          {gpu ? "share_of_gemm" : "share_of_peak", flops / seconds * 1e-9 / peak}};
}

}  // namespace

int bench_optimizer(const BenchFlags& flags) {
  manual_seed(1);
  const bool gpu = flags.place.gpu();
  const auto model = bench_model(flags);
  model->to(flags.place.device);
  set_random_gradients(*model, flags.place);
  const double copy = gpu ? measure_gpu_copy_rate() * 1e-9 : kernels::measure_copy_bandwidth(num_threads());
  Rows rows({{"optimizer", "optimizer", 18},
             {"milliseconds", "ms", 9, gpu ? 4 : 2},
             {"megabytes", "MB moved", 9, 1},
             {"gigabytes_per_second", "GB/s", 8},
             {"share_of_copy", "of copy", 8, 2},
             {"gflops", "GFLOP/s", 9},
             {gpu ? "share_of_gemm" : "share_of_peak", gpu ? "of gemm" : "of peak", 8, 2}},
            flags.json);
  rows.text(
      fmt::format("{:.2f} M parameters of {}, {}; memory copy {:.1f} GB/s",
                  double(model->num_parameters()) * 1e-6, flags.model,
                  gpu ? kernels::cuda::device_info().name + (flags.place.capture ? ", captured" : ", eager")
                      : fmt::format("{} threads", num_threads()),
                  copy));
  for (const std::string& name : flags.optimizers.empty() ? optim::optimizer_names() : flags.optimizers) {
    const auto optimizer = make(name, *model);
    const double seconds = seconds_of_step(*optimizer, flags.seconds, flags.place);
    const double bytes = double(bytes_moved(*optimizer)), flops = optimizer->product_flops();
    nlohmann::json row = gpu ? gpu_fields(flags) : nlohmann::json{{"threads", num_threads()}};
    row.update({{"bench", "optimizer"},
                {"optimizer", name},
                {"parameters", model->num_parameters()},
                {"milliseconds", seconds * 1e3},
                {"megabytes", bytes * 1e-6}});
    if (flops > 0)
      row.update(product_rate(flops, seconds, gpu));
    else
      row.update({{"gigabytes_per_second", bytes / seconds * 1e-9},
                  {"copy_gigabytes_per_second", copy},
                  {"share_of_copy", bytes / seconds * 1e-9 / copy}});
    rows.print(row);
  }
  return kDone;
}

OpCase optimizer_case(Module& model, const BenchFlags& flags) {
  return {.family = "optimizer",
          .op = flags.optimizer,
          .shape = fmt::format("{:.2f} M parameters", double(model.num_parameters()) * 1e-6),
          .count = 1,
          .passes = {{"step", double(bytes_moved(*make(flags.optimizer, model)))}},
          .prepare = [&model, name = flags.optimizer, place = flags.place] {
            set_random_gradients(model, place);
            const std::shared_ptr<optim::Optimizer> optimizer = make(name, model);
            return [optimizer, place](double seconds) -> std::vector<OpSample> {
              return {{seconds_of_step(*optimizer, seconds, place), 0}};
            };
          }};
}

}  // namespace weft::app
