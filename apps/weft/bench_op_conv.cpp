// The convolutions of a model for weft bench op: each shape once, on the kernels themselves, because a step's
// backward makes two gradients and each of them has a rate of its own.
#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/bench_op.h"
#include "weft/engine/allocator.h"
#include "weft/engine/tape.h"
#include "weft/kernels/convolution.h"
#include "weft/layers/conv2d.h"

namespace weft::app {

using kernels::Conv2dParams;
using kernels::ConvPass;

namespace {

struct PassName {
  ConvPass pass;
  const char* name;
};
constexpr PassName kPasses[] = {{ConvPass::forward, "forward"},
                                {ConvPass::backward_weight, "backward_weight"},
                                {ConvPass::backward_input, "backward_input"}};

std::string describe(const Conv2dParams& p) {
  return fmt::format("{}->{} {}x{}{} @{}", p.in_c, p.out_c, p.kernel_h, p.kernel_w,
                     p.stride_h > 1 ? fmt::format(" s{}", p.stride_h) : "", p.in_h);
}

/// Runs the passes on buffers of their own; a layer on the images has no data gradient.
OpRun run_of_conv(const Conv2dParams& p, bool first) {
  const auto& k = kernels::cpu();
  int64_t scratch = 1;
  for (const PassName& pass : kPasses) scratch = std::max(scratch, k.conv2d_workspace(p, pass.pass));
  const Shape x_shape{p.batch, p.in_h, p.in_w, p.in_c}, y_shape{p.batch, p.out_h(), p.out_w(), p.out_c};
  const Tensor x = Tensor::uniform(x_shape, -1, 1), dx = Tensor::empty(x_shape),
               w = Tensor::uniform({p.out_c, p.kernel_h, p.kernel_w, p.in_c / p.groups}, -1, 1),
               dw = Tensor::empty(w.shape()), y = Tensor::empty(y_shape),
               dy = Tensor::uniform(y_shape, -1, 1);
  const auto workspace = std::make_shared<Storage>(size_t(scratch));
  return [=, &k] {
    const double flops = 2.0 * double(p.multiply_adds());
    std::vector<OpSample> samples;
    const auto time = [&](const std::function<void()>& work) {
      samples.push_back({time_calls(work, 1, 0).front(), flops});
    };
    void* scratch = workspace->data();
    time([&] { k.conv2d_forward(p, x.data<float>(), w.data<float>(), nullptr, y.data<float>(), scratch); });
    time([&] { k.conv2d_backward_weight(p, x.data<float>(), dy.data<float>(), dw.data<float>(), scratch); });
    if (!first)
      time([&] { k.conv2d_backward_input(p, dy.data<float>(), w.data<float>(), dx.data<float>(), scratch); });
    return samples;
  };
}

}  // namespace

std::vector<ConvShape> conv_shapes(Module& model, int64_t batch, int64_t size) {
  std::map<std::string, Shape> inputs;
  {
    Tape tape;
    model.forward(Tensor::zeros({2, size, size, 3}));
    for (const TapeEntry& e : tape.entries()) inputs.emplace(e.scope, e.inputs.front().shape);
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
      shapes.push_back({p, 1, shapes.empty(), describe(p)});
    else
      ++same->count;
  });
  return shapes;
}

std::vector<OpCase> conv_cases(Module& model, int64_t batch, int64_t size) {
  std::vector<OpCase> cases;
  for (const ConvShape& s : conv_shapes(model, batch, size)) {
    OpCase c{.family = "conv", .op = "conv2d", .shape = s.text, .count = s.count};
    for (const PassName& pass : kPasses)
      if (!s.first || pass.pass != ConvPass::backward_input)
        c.passes.push_back(
            {pass.name, 0, conv_algorithm_name(kernels::cpu().conv2d_algorithm(s.params, pass.pass))});
    c.prepare = [p = s.params, first = s.first] { return run_of_conv(p, first); };
    cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace weft::app
