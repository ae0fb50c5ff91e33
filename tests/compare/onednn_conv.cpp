// Every convolution of MXResNet18 and 50, pass by pass: weft beside oneDNN (version 2), in turns.
//
//   onednn_conv [--threads N] [--batch N] [--size N] [--rounds N] [--model NAME]... [--json]
//
// oneDNN chooses its own memory layout, and reordering to and from it is not counted. Where a layer is 3x3
// with stride 1, its Winograd is measured too. oneDNN runs on its own threads, as many as weft's
// (OMP_NUM_THREADS is set here).
#include <fmt/core.h>
#include <omp.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "compare/onednn.h"
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

/// The table in Markdown, or a JSON object a line.
class Report {
 public:
  explicit Report(bool json) : json_(json) {}
  void title(const std::string& text) const {
    if (json_) return;
    fmt::print("{}\n\n", text);
    for (const char* key : kColumns) fmt::print("| {} ", key);
    fmt::print("|\n");
    for (size_t i = 0; i < std::size(kColumns); ++i) fmt::print("|---");
    fmt::print("|\n");
  }
  void row(const nlohmann::json& row) const {
    if (json_) {
      fmt::print("{}\n", row.dump());
    } else {
      for (const char* key : kColumns) fmt::print("| {} ", cell(row, key));
      fmt::print("|\n");
    }
    std::fflush(stdout);
  }

 private:
  static constexpr const char* kColumns[] = {"model",           "shape",         "pass",
                                             "weft_gflops",     "direct_gflops", "over_direct",
                                             "winograd_gflops", "over_winograd", "peak_gflops"};
  static std::string cell(const nlohmann::json& row, const std::string& key) {
    if (!row.contains(key)) return "-";
    const nlohmann::json& value = row[key];
    return value.is_string() ? value.get<std::string>()
                             : fmt::format("{:.{}f}", value.get<double>(), key.find("over") == 0 ? 2 : 1);
  }
  bool json_;
};

std::string machine() {
  std::ifstream info("/proc/cpuinfo");
  std::string name = "unknown CPU";
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0) {
      name = line.substr(line.find(':') + 2);
      break;
    }
  return fmt::format("{}, {} cores", name, std::thread::hardware_concurrency());
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
    fmt::print("\n");
    const auto line = [](const char* name, const std::vector<double>& r) {
      if (!r.empty())
        fmt::print("- weft over oneDNN {}: median {:.2f}, minimum {:.2f} of {} passes\n", name, median(r),
                   *std::min_element(r.begin(), r.end()), r.size());
    };
    line("direct, all layers", direct);
    line("Winograd, 3x3 stride 1", winograd);
    line("Winograd where it has one, else direct", mixed);
  }
};

void compare(const OpCase& c, const Conv2dParams& p, const std::string& model, const Options& o,
             const Report& report, Ratios& ratios) {
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
    const auto samples = weft_run(0);
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
    report.row(row);
  }
  empty_cache();
}

int run(const Options& o) {
  set_num_threads(o.threads);
  manual_seed(1);
  const dnnl_version_t* v = dnnl_version();
  const Report report(o.json);
  report.title(fmt::format(
      "GFLOP/s counted as direct convolution: weft ({} kernels) and oneDNN {}.{}.{}, {} px, batch {}, {} "
      "threads; {}; "
      "medians of {} in turns",
      kernels::cpu().name, v->major, v->minor, v->patch, o.size, o.batch, o.threads, machine(), o.rounds));
  Ratios ratios;
  for (const std::string& name : o.models) {
    BenchFlags flags;
    flags.model = name;
    const auto model = bench_model(flags);
    const auto shapes = conv_shapes(*model, o.batch, o.size);
    const auto cases = conv_cases(*model, o.batch, o.size, BenchPlace{});
    for (size_t i = 0; i < cases.size(); ++i) compare(cases[i], shapes[i].params, name, o, report, ratios);
  }
  if (!o.json) ratios.print();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  // After a primitive, OpenMP's threads would go on spinning, on the cores that weft is then measured on. The
  // variable is read when the library is loaded.
  if (!std::getenv("OMP_WAIT_POLICY")) {
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
  }
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
