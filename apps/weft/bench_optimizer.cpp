// weft bench optimizer: a step of each, beside the speed at which memory can be copied.
#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/names.h"
#include "weft/engine/random.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/parallel.h"
#include "weft/optim/registry.h"

namespace weft::app {
namespace {

/// Bytes that a step cannot do without: parameters and state are read and written, gradients are read.
/// Lookahead's slow weights are touched only every k-th step and not counted.
int64_t bytes_moved(const optim::Optimizer& optimizer) {
  int64_t bytes = 0;
  for (const Parameter& p : optimizer.parameters()) bytes += 3 * p.tensor.bytes();
  for (const auto& [name, tensor] : optimizer.state_dict())
    if (!name.ends_with("/slow_buffer")) bytes += 2 * tensor.bytes();
  return bytes;
}

}  // namespace

int bench_optimizer(const BenchFlags& flags) {
  manual_seed(1);
  const auto model = bench_model(flags);
  for (const Parameter& p : model->parameters()) p.tensor.set_grad(Tensor::normal(p.tensor.shape(), 0, 1e-2));
  const double copy = kernels::measure_copy_bandwidth(num_threads());
  Rows rows({{"optimizer", "optimizer", 18},
             {"milliseconds", "ms", 9, 2},
             {"megabytes", "MB moved", 9, 1},
             {"gigabytes_per_second", "GB/s", 8},
             {"share_of_copy", "of copy", 8, 2}},
            flags.json);
  rows.text(fmt::format("{:.2f} M parameters of {}, {} threads; memory copy {:.1f} GB/s",
                        double(model->num_parameters()) * 1e-6, flags.model, num_threads(), copy));
  for (const std::string& name : optimizer_names()) {
    const auto optimizer = optim::make_optimizer(name, optim::split_decay(model->parameters()), {.lr = 1e-6});
    const double seconds = median(time_for([&] { optimizer->step(); }, flags.seconds));
    const double bytes = double(bytes_moved(*optimizer));
    rows.print({{"bench", "optimizer"},
                {"optimizer", name},
                {"parameters", model->num_parameters()},
                {"threads", num_threads()},
                {"milliseconds", seconds * 1e3},
                {"megabytes", bytes * 1e-6},
                {"gigabytes_per_second", bytes / seconds * 1e-9},
                {"copy_gigabytes_per_second", copy},
                {"share_of_copy", bytes / seconds * 1e-9 / copy}});
  }
  return kDone;
}

}  // namespace weft::app
