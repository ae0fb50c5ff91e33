// weft bench op: the convolutions of a model, each shape once, each pass by itself.
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/engine/allocator.h"
#include "weft/engine/tape.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"
#include "weft/layers/conv2d.h"

namespace weft::app {

using kernels::Conv2dParams;
using kernels::ConvPass;

namespace {

struct ConvShape {
  Conv2dParams params;
  int64_t count = 0;   ///< layers of the model that have it
  bool first = false;  ///< works on the images: its data gradient is never needed
};

/// The convolution layers of `model` in order, read off one forward pass.
std::vector<ConvShape> conv_shapes(Module& model, int64_t batch, int64_t size) {
  std::map<std::string, Shape> inputs;
  {
    Tape tape;
    model.forward(Tensor::zeros({1, size, size, 3}));
    for (const TapeEntry& e : tape.entries())
      if (e.op == "conv2d") inputs[e.scope] = e.inputs.front().shape;
  }
  std::vector<ConvShape> shapes;
  model.visit([&](const std::string& path, Module& module) {
    const auto* conv = dynamic_cast<const Conv2d*>(&module);
    const auto input = inputs.find(path);
    if (!conv || input == inputs.end()) return;
    const Conv2dLayerOptions& o = conv->options();
    const Shape &x = input->second, &w = conv->weight.shape();
    const Conv2dParams p{.batch = batch,
                         .in_h = x[1],
                         .in_w = x[2],
                         .in_c = x[3],
                         .out_c = w[0],
                         .kernel_h = w[1],
                         .kernel_w = w[2],
                         .stride_h = o.stride,
                         .stride_w = o.stride,
                         .pad_h = o.padding,
                         .pad_w = o.padding,
                         .dilation_h = o.dilation,
                         .dilation_w = o.dilation,
                         .groups = o.groups};
    const auto same =
        std::find_if(shapes.begin(), shapes.end(), [&](const ConvShape& s) { return s.params == p; });
    if (same == shapes.end())
      shapes.push_back({p, 1, shapes.empty()});
    else
      ++same->count;
  });
  return shapes;
}

double time_pass(const Conv2dParams& p, ConvPass pass, double seconds) {
  const auto& k = kernels::cpu();
  const Tensor x = Tensor::uniform({p.batch, p.in_h, p.in_w, p.in_c}, -1, 1);
  const Tensor w = Tensor::uniform({p.out_c, p.kernel_h, p.kernel_w, p.in_c / p.groups}, -1, 1);
  const Tensor y = Tensor::uniform({p.batch, p.out_h(), p.out_w(), p.out_c}, -1, 1);
  const Storage workspace(size_t(std::max<int64_t>(k.conv2d_workspace(p, pass), 1)));
  float *px = x.data<float>(), *pw = w.data<float>(), *py = y.data<float>();
  return median(time_for(
      [&] {
        switch (pass) {
          case ConvPass::forward:
            return k.conv2d_forward(p, px, pw, nullptr, py, workspace.data());
          case ConvPass::backward_input:
            return k.conv2d_backward_input(p, py, pw, px, workspace.data());
          case ConvPass::backward_weight:
            return k.conv2d_backward_weight(p, px, py, pw, workspace.data());
        }
      },
      seconds));
}

std::string describe(const Conv2dParams& p) {
  return fmt::format("{}->{} {}x{}{} @{}", p.in_c, p.out_c, p.kernel_h, p.kernel_w,
                     p.stride_h > 1 ? fmt::format(" s{}", p.stride_h) : "", p.in_h);
}

}  // namespace

int bench_op(const BenchFlags& flags) {
  const auto model = bench_model(flags);
  Rows rows({{"shape", "convolution", 22},
             {"count", "layers", 6, 0},
             {"pass", "pass", 15},
             {"milliseconds", "ms", 9, 3},
             {"gflops", "GFLOP/s", 9},
             {"share_of_peak", "of peak", 8, 2}},
            flags.json);
  double peak = kernels::measure_fma_peak(num_threads());
  rows.text(fmt::format(
      "convolutions of {} at {} px, batch {}; {} threads, {} kernels, multiply-add peak {:.1f} GFLOP/s",
      flags.model, flags.size, flags.batch_size, num_threads(), kernels::cpu().name, peak));
  double total_seconds = 0, total_flops = 0;
  for (const ConvShape& s : conv_shapes(*model, flags.batch_size, flags.size)) {
    peak = kernels::measure_fma_peak(num_threads());  // beside each shape, because the machine's clock drifts
    for (auto [pass, name] : {std::pair{ConvPass::forward, "forward"},
                              {ConvPass::backward_input, "backward_input"},
                              {ConvPass::backward_weight, "backward_weight"}}) {
      if (s.first && pass == ConvPass::backward_input) continue;
      const double seconds = time_pass(s.params, pass, flags.seconds),
                   flops = 2.0 * double(s.params.multiply_adds());
      total_seconds += seconds * double(s.count), total_flops += flops * double(s.count);
      rows.print({{"bench", "op"},
                  {"op", "conv2d"},
                  {"pass", name},
                  {"shape", describe(s.params)},
                  {"batch_size", flags.batch_size},
                  {"count", s.count},
                  {"threads", num_threads()},
                  {"kernels", kernels::cpu().name},
                  {"milliseconds", seconds * 1e3},
                  {"gflops", flops / seconds * 1e-9},
                  {"peak_gflops", peak},
                  {"share_of_peak", flops / seconds * 1e-9 / peak}});
    }
  }
  rows.print({{"bench", "op"},
              {"op", "conv2d"},
              {"pass", "all"},
              {"shape", "all of a step"},
              {"milliseconds", total_seconds * 1e3},
              {"gflops", total_flops / total_seconds * 1e-9},
              {"peak_gflops", peak},
              {"share_of_peak", total_flops / total_seconds * 1e-9 / peak}});
  return kDone;
}

}  // namespace weft::app
