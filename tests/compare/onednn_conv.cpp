// Every convolution of MXResNet18 and 50, pass by pass: weft beside oneDNN (version 2), in turns.
//
//   onednn_conv [--threads N] [--batch N] [--size N] [--rounds N] [--model NAME]... [--json]
//
// oneDNN chooses its own memory layout, and reordering to and from it is not counted. Where a layer is 3x3
// with stride 1, its Winograd is measured too. oneDNN runs on its own threads, as many as weft's
// (OMP_NUM_THREADS is set here).
#include <fmt/core.h>
#include <omp.h>
#include <dnnl.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <unordered_map>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/bench_op.h"
#include "weft/engine/allocator.h"
#include "weft/engine/random.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/parallel.h"

using namespace weft;
using namespace weft::app;
using kernels::Conv2dParams;

namespace {

/// A pass that oneDNN has built, with memory of its own; run() is nothing but the convolution.
class OneDnn {
 public:
  enum class Pass { forward, backward_weight, backward_input };

  /// Throws dnnl::error where this build of oneDNN has no such primitive.
  OneDnn(const Conv2dParams& p, Pass pass, dnnl::algorithm algorithm) : stream_(engine()) {
    using tag = dnnl::memory::format_tag;
    const auto any = [](const dnnl::memory::dims& dims) {
      return dnnl::memory::desc(dims, dnnl::memory::data_type::f32, tag::any);
    };
    const auto x = any({p.batch, p.in_c, p.in_h, p.in_w}), w = any({p.out_c, p.in_c, p.kernel_h, p.kernel_w}),
               y = any({p.batch, p.out_c, p.out_h(), p.out_w()});
    const dnnl::memory::dims strides{p.stride_h, p.stride_w}, pad{p.pad_h, p.pad_w};
    // Backward passes must compute what the forward of the same algorithm computed: it is their hint.
    const dnnl::convolution_forward::primitive_desc forward(
        {dnnl::prop_kind::forward_training, algorithm, x, w, y, strides, pad, pad}, engine());
    if (pass == Pass::forward) {
      add(forward.src_desc(), DNNL_ARG_SRC), add(forward.weights_desc(), DNNL_ARG_WEIGHTS);
      add(forward.dst_desc(), DNNL_ARG_DST);
      primitive_ = dnnl::convolution_forward(forward);
    } else if (pass == Pass::backward_input) {
      const dnnl::convolution_backward_data::primitive_desc d({algorithm, x, w, y, strides, pad, pad},
                                                              engine(), forward);
      add(d.diff_dst_desc(), DNNL_ARG_DIFF_DST), add(d.weights_desc(), DNNL_ARG_WEIGHTS);
      add(d.diff_src_desc(), DNNL_ARG_DIFF_SRC);
      primitive_ = dnnl::convolution_backward_data(d);
    } else {
      const dnnl::convolution_backward_weights::primitive_desc d({algorithm, x, w, y, strides, pad, pad},
                                                                 engine(), forward);
      add(d.src_desc(), DNNL_ARG_SRC), add(d.diff_dst_desc(), DNNL_ARG_DIFF_DST);
      add(d.diff_weights_desc(), DNNL_ARG_DIFF_WEIGHTS);
      primitive_ = dnnl::convolution_backward_weights(d);
    }
  }

  void run() {
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  static dnnl::engine& engine() {
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
  }
  void add(const dnnl::memory::desc& desc, int argument) {
    dnnl::memory memory(desc, engine());
    auto* values = static_cast<float*>(memory.get_data_handle());
    for (size_t i = 0; i < desc.get_size() / sizeof(float); ++i) values[i] = float(i % 17) / 17.F - 0.5F;
    arguments_.emplace(argument, memory);
  }

  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

OneDnn::Pass pass_of(const std::string& name) {
  return name == "forward"           ? OneDnn::Pass::forward
         : name == "backward_weight" ? OneDnn::Pass::backward_weight
                                     : OneDnn::Pass::backward_input;
}

/// The primitives for all passes of a case under one algorithm; none for a pass that oneDNN can't build.
std::vector<std::optional<OneDnn>> build(const OpCase& c, const Conv2dParams& p, dnnl::algorithm algorithm) {
  std::vector<std::optional<OneDnn>> built;
  for (const OpPass& pass : c.passes) {
    built.emplace_back();
    try {
      built.back().emplace(p, pass_of(pass.name), algorithm);
    } catch (const dnnl::error&) {
    }
  }
  return built;
}

struct Options {
  std::vector<std::string> models{"mxresnet18", "mxresnet50"};
  int64_t batch = 32, size = 128, rounds = 9;
  int threads = num_threads();
  bool json = false;
};

/// Ratios of weft's speed to oneDNN's.
struct Ratios {
  std::vector<double> direct, winograd, mixed;
  void print() const {
    const auto line = [](const char* name, const std::vector<double>& r) {
      if (!r.empty())
        fmt::print("weft over oneDNN {}: median {:.2f}, minimum {:.2f} of {} passes\n", name, median(r),
                   *std::min_element(r.begin(), r.end()), r.size());
    };
    line("direct, all layers", direct);
    line("Winograd, 3x3 stride 1", winograd);
    line("Winograd where it has one, else direct", mixed);
  }
};

void compare(const OpCase& c, const Conv2dParams& p, const std::string& model, const Options& o, Rows& rows,
             Ratios& ratios) {
  const bool winograd_shape = p.kernel_h == 3 && p.kernel_w == 3 && p.stride_h == 1 && p.stride_w == 1;
  auto direct = build(c, p, dnnl::algorithm::convolution_direct);
  auto winograd = winograd_shape ? build(c, p, dnnl::algorithm::convolution_winograd)
                                 : std::vector<std::optional<OneDnn>>(c.passes.size());
  const OpRun weft_run = c.prepare();
  const size_t passes = c.passes.size();
  std::vector<std::vector<double>> ours(passes), theirs(passes), theirs_winograd(passes);
  // Threads that have just worked spin for a while; they must not take the other side's cores.
  const auto calm = [] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); };
  const auto time = [](std::optional<OneDnn>& primitive, std::vector<double>& seconds, bool count) {
    if (!primitive) return;
    const double s = time_calls([&] { primitive->run(); }, 1, 0).front();
    if (count) seconds.push_back(s);
  };
  for (int64_t round = -1; round < o.rounds; ++round) {
    calm();
    const auto samples = weft_run();
    calm();
    for (size_t i = 0; i < passes; ++i) {
      if (round >= 0) ours[i].push_back(samples[i].seconds);
      time(direct[i], theirs[i], round >= 0);
    }
    for (size_t i = 0; i < passes; ++i) time(winograd[i], theirs_winograd[i], round >= 0);
  }
  const double flops = 2.0 * double(p.multiply_adds()), peak = kernels::measure_fma_peak(o.threads);
  const auto rate = [&](const std::vector<double>& seconds) { return flops / median(seconds) * 1e-9; };
  for (size_t i = 0; i < passes; ++i) {
    nlohmann::json row = {{"compare", "onednn_conv"}, {"model", model},
                          {"shape", c.shape},         {"pass", c.passes[i].name},
                          {"count", c.count},         {"batch_size", o.batch},
                          {"threads", o.threads},     {"weft_gflops", rate(ours[i])},
                          {"peak_gflops", peak}};
    const auto put = [&](const char* gflops, const char* ratio, const std::vector<double>& seconds,
                         std::vector<double>& all) {
      if (seconds.empty()) return;
      row[gflops] = rate(seconds);
      row[ratio] = rate(ours[i]) / rate(seconds);
      all.push_back(row[ratio]);
    };
    put("direct_gflops", "over_direct", theirs[i], ratios.direct);
    put("winograd_gflops", "over_winograd", theirs_winograd[i], ratios.winograd);
    if (winograd_shape && theirs_winograd[i].empty()) row["winograd_gflops"] = "none";
    const char* target = theirs_winograd[i].empty() ? "over_direct" : "over_winograd";
    if (row.contains(target)) ratios.mixed.push_back(row[target]);
    rows.print(row);
  }
  empty_cache();
}

int run(const Options& o) {
  set_num_threads(o.threads);
  manual_seed(1);
  Rows rows({{"model", "model", 10},
             {"shape", "convolution", 22},
             {"pass", "pass", 15},
             {"weft_gflops", "weft", 7},
             {"direct_gflops", "direct", 7},
             {"over_direct", "ratio", 6, 2},
             {"winograd_gflops", "Winograd", 8},
             {"over_winograd", "ratio", 6, 2},
             {"peak_gflops", "peak", 7}},
            o.json);
  const dnnl_version_t* v = dnnl_version();
  rows.text(fmt::format(
      "GFLOP/s counted as direct convolution: weft ({} kernels) and oneDNN {}.{}.{}, {} px, batch {}, "
      "{} threads; medians of {} in turns",
      kernels::cpu().name, v->major, v->minor, v->patch, o.size, o.batch, o.threads, o.rounds));
  Ratios ratios;
  for (const std::string& name : o.models) {
    BenchFlags flags;
    flags.model = name;
    const auto model = bench_model(flags);
    const auto shapes = conv_shapes(*model, o.batch, o.size);
    const auto cases = conv_cases(*model, o.batch, o.size);
    for (size_t i = 0; i < cases.size(); ++i) compare(cases[i], shapes[i].params, name, o, rows, ratios);
  }
  if (!o.json) ratios.print();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Every convolution of MXResNet18 and 50 in weft and in oneDNN, in turns.");
  app.add_option("--threads", o.threads)->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--batch", o.batch)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--size", o.size)->check(CLI::Range(32, 4096))->capture_default_str();
  app.add_option("--rounds", o.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--model", o.models)->delimiter(',');
  app.add_flag("--json", o.json, "JSON lines");
  CLI11_PARSE(app, argc, argv);
  omp_set_num_threads(o.threads);
  try {
    return run(o);
  } catch (const std::exception& e) {
    fmt::print(stderr, "onednn_conv: {}\n", e.what());
    return 1;
  }
}
