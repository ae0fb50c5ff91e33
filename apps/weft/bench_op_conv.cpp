// The convolutions of a model for weft bench op: each shape once, on the kernels themselves, because a step's
// backward makes two gradients and each of them has a rate of its own.
#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "weft/apps/weft/bench_gpu.h"
#include "weft/apps/weft/bench_op.h"
#include "weft/engine/dispatch.h"
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
  return fmt::format("{}->{} {}x{}{}{} @{}", p.in_c, p.out_c, p.kernel_h, p.kernel_w,
                     p.stride_h > 1 ? fmt::format(" s{}", p.stride_h) : "",
                     p.groups > 1 ? fmt::format(" g{}", p.groups) : "", p.in_h);
}

Tensor random(const Shape& shape, const BenchPlace& place) {
  return place.gpu() ? random_on_gpu(shape, place.dtype) : Tensor::uniform(shape, -1, 1);
}

/// The passes on buffers of their own, in the order of kPasses.
std::vector<std::function<void()>> passes_of(const Conv2dParams& p, const BenchPlace& place) {
  const Shape x_shape{p.batch, p.in_h, p.in_w, p.in_c}, y_shape{p.batch, p.out_h(), p.out_w(), p.out_c};
  const auto empty = [&](const Shape& shape) { return Tensor::empty(shape, place.dtype, place.device); };
  const Tensor x = random(x_shape, place), dx = empty(x_shape),
               w = random({p.out_c, p.kernel_h, p.kernel_w, p.in_c / p.groups}, place), dw = empty(w.shape()),
               y = empty(y_shape), dy = random(y_shape, place);
  int64_t bytes = 1;
  dispatch("bench op", x, [&](const auto& k) {
    for (const PassName& pass : kPasses) bytes = std::max(bytes, k.conv2d_workspace(p, pass.pass));
  });
  const auto workspace = std::make_shared<Storage>(size_t(bytes), place.device);
  const auto pass = [x](auto&& run) {
    return [x, run] { dispatch("bench op", x, [&](const auto& k) { run(k, kernel_type<decltype(k)>()); }); };
  };
  return {pass([=]<class T>(const auto& k, T) {
            k.conv2d_forward(p, x.data<T>(), w.data<T>(), nullptr, y.data<T>(), workspace->data());
          }),
          pass([=]<class T>(const auto& k, T) {
            k.conv2d_backward_weight(p, x.data<T>(), dy.data<T>(), dw.data<T>(), workspace->data());
          }),
          pass([=]<class T>(const auto& k, T) {
            k.conv2d_backward_input(p, dy.data<T>(), w.data<T>(), dx.data<T>(), workspace->data());
          })};
}

/// Depthwise convolutions on the CPU; the others are held against the multiply-add peak there.
bool memory_bound(const Conv2dParams& p, const BenchPlace& place) {
  return !place.gpu() && p.groups > 1 && p.groups == p.in_c;
}

/// Runs the passes; a layer on the images has no data gradient.
OpRun run_of_conv(const Conv2dParams& p, bool first, const BenchPlace& place) {
  std::vector<std::function<void()>> passes = passes_of(p, place);
  if (first) passes.pop_back();
  const double flops = memory_bound(p, place) ? 0 : 2.0 * double(p.multiply_adds());
  if (place.gpu()) {
    const auto run = std::make_shared<GpuPasses>(place.capture, GpuPasses::kMaxCalls);
    for (const auto& pass : passes) run->add([pass](int64_t) { pass(); });
    return [run, flops](double seconds) {
      std::vector<OpSample> samples;
      for (double time : (*run)(seconds)) samples.push_back({time, flops});
      return samples;
    };
  }
  return [passes, flops](double) {
    std::vector<OpSample> samples;
    for (const auto& pass : passes) samples.push_back({time_calls(pass, 1, 0).front(), flops});
    return samples;
  };
}

/// x, w and y, once each.
double bytes_of(const Conv2dParams& p, DType dtype) {
  return double(size_of(dtype)) * (double(p.batch * p.in_h * p.in_w) * double(p.in_c) +
                                   double(p.out_c * p.kernel_h * p.kernel_w) * double(p.in_c / p.groups) +
                                   double(p.batch * p.out_h() * p.out_w()) * double(p.out_c));
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
                         .groups = o.groups,
                         .bf16 = may_round_to_bf16()};
    const auto same =
        std::find_if(shapes.begin(), shapes.end(), [&](const ConvShape& s) { return s.params == p; });
    if (same == shapes.end())
      shapes.push_back({p, 1, shapes.empty(), describe(p)});
    else
      ++same->count;
  });
  return shapes;
}

std::vector<OpCase> conv_cases(Module& model, int64_t batch, int64_t size, const BenchPlace& place) {
  std::vector<OpCase> cases;
  for (const ConvShape& s : conv_shapes(model, batch, size)) {
    OpCase c{.family = "conv", .op = "conv2d", .shape = s.text, .count = s.count};
    for (const PassName& pass : kPasses) {
      if (s.first && pass.pass == ConvPass::backward_input) continue;
      const bool memory = place.gpu() || memory_bound(s.params, place);
      c.passes.push_back({pass.name, memory ? bytes_of(s.params, place.dtype) : 0});
      if (!place.gpu())
        c.passes.back().algorithm = conv_algorithm_name(kernels::cpu().conv2d_algorithm(s.params, pass.pass));
    }
    c.prepare = [p = s.params, first = s.first, place] { return run_of_conv(p, first, place); };
    cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace weft::app
