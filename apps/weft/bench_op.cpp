// weft bench op: single ops beside the ceiling that bounds them, multiply-adds or memory.
#include "weft/apps/weft/bench_op.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench_gpu.h"
#include "weft/apps/weft/command.h"
#include "weft/engine/allocator.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/profile.h"
#include "weft/engine/random.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/parallel.h"

namespace weft::app {
namespace {

/// In units of 1e9 a second. Of multiply-adds: on a GPU what matrix products reach.
struct Ceilings {
  double gflops, gigabytes;
  bool gpu;
};

Ceilings measure_ceilings(const BenchPlace& place) {
  if (place.gpu()) return {measure_gpu_gemm_rate(place.dtype) * 1e-9, measure_gpu_copy_rate() * 1e-9, true};
  return {kernels::measure_fma_peak(num_threads()), kernels::measure_copy_bandwidth(num_threads()), false};
}

/// Runs the case for `seconds` a pass; the median seconds and the flops of each pass.
std::vector<OpSample> measure(const OpCase& c, double seconds, const BenchPlace& place) {
  const OpRun run = c.prepare();
  if (place.gpu()) return run(seconds * double(c.passes.size()));
  run(0);
  std::vector<std::vector<double>> times(c.passes.size());
  std::vector<OpSample> result;
  for (double total = 0; times[0].size() < 3 || total < seconds * double(c.passes.size());) {
    result = run(0);
    check(result.size() == times.size(), "bench op: ", c.op, " ran ", result.size(), " passes, not ",
          times.size());
    for (size_t i = 0; i < times.size(); ++i)
      times[i].push_back(result[i].seconds), total += result[i].seconds;
  }
  for (size_t i = 0; i < times.size(); ++i) result[i].seconds = median(times[i]);
  return result;
}

/// Rates of what took so long: of memory where it is a matter of that, else of multiply-adds; on a GPU of
/// both.
nlohmann::json rates(double seconds, double flops, double bytes, const Ceilings& ceilings) {
  nlohmann::json row = {{"milliseconds", seconds * 1e3}};
  if (flops > 0 && (bytes == 0 || ceilings.gpu)) {
    const double rate = flops / seconds * 1e-9;
    row.update({{"gflops", rate},
                {ceilings.gpu ? "gemm_gflops" : "peak_gflops", ceilings.gflops},
                {ceilings.gpu ? "share_of_gemm" : "share_of_peak", rate / ceilings.gflops}});
  }
  if (bytes > 0) {
    const double rate = bytes / seconds * 1e-9;
    row.update({{"gigabytes_per_second", rate},
                {"copy_gigabytes_per_second", ceilings.gigabytes},
                {"share_of_copy", rate / ceilings.gigabytes}});
  }
  return row;
}

/// The chosen cases, in the order of their families.
std::vector<OpCase> chosen(const BenchFlags& flags, Module& model) {
  const int64_t n = flags.batch_size, size = flags.size;
  const BenchPlace& place = flags.place;
  std::vector<OpCase> all = conv_cases(model, n, size, place);
  for (auto& more :
       {layer_cases(model, n, size, place),
        plain_cases(output_shape(model, "stem", n, size, {n, size / 2, size / 2, 64}),
                    output_shape(model, "stages.0", n, size, {n, size / 4, size / 4, 64}), place),
        place.gpu() ? augment_cases(n, size, place) : std::vector<OpCase>()})
    all.insert(all.end(), more.begin(), more.end());
  if (place.gpu()) all.push_back(optimizer_case(model, flags));
  std::vector<OpCase> cases;
  for (const std::string& family : op_families()) {
    if (!flags.only.empty() && std::find(flags.only.begin(), flags.only.end(), family) == flags.only.end())
      continue;
    for (const OpCase& c : all)
      if (c.family == family && (c.op + " " + c.shape).find(flags.filter) != std::string::npos)
        cases.push_back(c);
  }
  if (cases.empty() && flags.filter.empty()) usage_error("--only: there are no such ops on the CPU");
  if (cases.empty()) usage_error("--filter: no op has '", flags.filter, "' in its name or shape");
  return cases;
}

/// What a family's layers cost in a step of the model.
struct Total {
  double seconds = 0, flops = 0, bytes = 0;
};

}  // namespace

std::vector<std::string> op_families() {
  return {"conv",     "norm",        "activation", "pool",    "loss",    "matmul",   "attention",
          "sequence", "elementwise", "reduce",     "dropout", "augment", "optimizer"};
}

std::string text_of(const Shape& shape) { return joined(shape, "x"); }

OpRun run_of(const std::vector<Shape>& inputs, const OpFunction& f, const BenchPlace& place, Module* layer) {
  if (place.gpu()) return run_on_gpu(inputs, f, place, layer);
  std::vector<Tensor> leaves;
  for (const Shape& shape : inputs) leaves.push_back(Tensor::uniform(shape, -1, 1).set_requires_grad());
  return [leaves, f, layer](double) -> std::vector<OpSample> {
    for (const Tensor& leaf : leaves) leaf.zero_grad();
    if (layer) layer->zero_grad();
    const auto add_up = [](const auto& events, size_t begin, size_t end) {
      OpSample sum;
      for (size_t i = begin; i < end; ++i)
        sum.seconds += events[i].seconds, sum.flops += 2.0 * double(events[i].multiply_adds);
      return sum;
    };
    Profiler profiler;
    Tape tape;
    Tensor after;
    OpSample forward;
    {
      std::vector<Tensor> x;
      for (const Tensor& leaf : leaves) x.push_back(affine(leaf, 1));
      profiler.clear();
      const Tensor y = f(x);
      forward = add_up(profiler.events(), 0, profiler.events().size());
      after = affine(y, 1);
    }
    const Tensor seed = Tensor::ones(after.shape());
    profiler.clear();
    tape.backward(after, seed);
    // The first event is of the op after, the last ones are of those before.
    return {forward, add_up(profiler.events(), 1, profiler.events().size() - leaves.size())};
  };
}

int bench_op(const BenchFlags& flags) {
  manual_seed(1);
  const bool gpu = flags.place.gpu();
  const auto model = bench_model(flags);
  const std::vector<OpCase> cases = chosen(flags, *model);
  model->to(flags.place.device);
  std::vector<Rows::Column> columns = {{"family", "family", 11},
                                       {"op", "op", 19},
                                       {"shape", "shape", 34},
                                       {"count", "layers", 6},
                                       {"pass", "pass", 15}};
  if (!gpu) columns.push_back({"algorithm", "algorithm", 9});
  columns.insert(columns.end(), {{"milliseconds", "ms", 9, gpu ? 4 : 3},
                                 {"gflops", "GFLOP/s", 8},
                                 {gpu ? "share_of_gemm" : "share_of_peak", gpu ? "of gemm" : "of peak", 7, 2},
                                 {"gigabytes_per_second", "GB/s", 7},
                                 {"share_of_copy", "of copy", 7, 2}});
  Rows rows(columns, flags.json);
  // Measured again and again below, because the machine's clock drifts.
  Ceilings ceilings = measure_ceilings(flags.place);
  if (gpu)
    rows.text(fmt::format(
        "ops of {} at {} px, batch {}; {} on {}, {}; matrix products {:.0f} GFLOP/s, memory copy {:.0f} GB/s",
        flags.model, flags.size, flags.batch_size, flags.precision, kernels::cuda::device_info().name,
        flags.place.capture ? "captured" : "eager", ceilings.gflops, ceilings.gigabytes));
  else
    rows.text(
        fmt::format("ops of {} at {} px, batch {}; {}, {} threads, {} kernels, multiply-add peak {:.1f} "
                    "GFLOP/s, memory copy {:.1f} GB/s",
                    flags.model, flags.size, flags.batch_size, flags.precision, num_threads(),
                    kernels::cpu().name, ceilings.gflops, ceilings.gigabytes));
  const auto print = [&](const OpCase& c, const std::string& pass, const nlohmann::json& more) {
    nlohmann::json row =
        gpu ? gpu_fields(flags) : nlohmann::json{{"threads", num_threads()}, {"precision", flags.precision}};
    row.update({{"bench", "op"},
                {"family", c.family},
                {"op", c.op},
                {"pass", pass},
                {"shape", c.shape},
                {"batch_size", flags.batch_size},
                {"kernels", gpu ? "cuda" : kernels::cpu().name}});
    if (c.count) row["count"] = c.count;
    row.update(more);
    rows.print(row);
  };
  for (size_t i = 0; i < cases.size();) {
    const std::string family = cases[i].family;
    Total total;
    if (i > 0) ceilings = measure_ceilings(flags.place);
    for (; i < cases.size() && cases[i].family == family; ++i) {
      const OpCase& c = cases[i];
      const std::vector<OpSample> samples = measure(c, flags.seconds, flags.place);
      if (!gpu && samples.front().flops > 0) ceilings.gflops = kernels::measure_fma_peak(num_threads());
      for (size_t p = 0; p < samples.size(); ++p) {
        const OpSample& s = samples[p];
        const double n = double(c.count);
        total.seconds += n * s.seconds, total.flops += n * s.flops, total.bytes += n * c.passes[p].bytes;
        nlohmann::json figures = rates(s.seconds, s.flops, c.passes[p].bytes, ceilings);
        if (!c.passes[p].algorithm.empty()) figures["algorithm"] = c.passes[p].algorithm;
        print(c, c.passes[p].name, figures);
      }
      empty_cache(flags.place.device);
    }
    if (total.seconds > 0)
      print({.family = family, .op = family, .shape = "all of a step"}, "all",
            rates(total.seconds, total.flops, total.bytes, ceilings));
  }
  return kDone;
}

}  // namespace weft::app
