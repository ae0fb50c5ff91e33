// Depthwise convolution: every input channel has `multiplier` filters of its own. The passes sum in the order
// of the channels times filters, called wide; the input's channels are repeated when they are read, and its
// gradient's added up when they are written.
#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/depthwise_tile.h"
#include "weft/kernels/cpu/isa/panels.h"

namespace weft::kernels::WEFT_ISA {
namespace {

DepthwisePlan plan_of(const Conv2dParams& p, const Axis& h, const Axis& w) {
  return {p.batch, p.out_c / p.in_c, p.out_c, h, w};
}
DepthwisePlan forward_plan(const Conv2dParams& p) {
  return plan_of(p, forward_axis(p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h),
                 forward_axis(p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w));
}

/// out[tap][c] for the taps of two axes.
void pack_weights(const Conv2dParams& p, const float* w, const ParityClass& h, const ParityClass& v,
                  int64_t pitch, float* out) {
  for (int64_t a = 0; a < h.axis.taps; ++a)
    for (int64_t b = 0; b < v.axis.taps; ++b, out += pitch) {
      const float* tap = w + (h.first_tap + a * h.tap_step) * p.kernel_w + v.first_tap + b * v.tap_step;
      for (int64_t c = 0; c < p.out_c; ++c) out[c] = tap[c * p.kernel_h * p.kernel_w];
      for (int64_t c = p.out_c; c < pitch; ++c) out[c] = 0;
    }
}

// The weight gradient is summed in parts.
int64_t weight_parts(const DepthwisePlan& plan) {
  constexpr int64_t kMostParts = 32;
  const int64_t elements = plan.batch * plan.h.count * plan.w.count * plan.wide;
  return larger(1, smaller(smaller(kMostParts, plan.tasks()), elements / kGrain));
}

int64_t workspace(const Conv2dParams& p, ConvPass pass) {
  const DepthwisePlan plan = forward_plan(p);
  const int64_t weights = plan.taps() * plan.pitch() * int64_t(sizeof(float));
  return pass == ConvPass::backward_weight ? weights * weight_parts(plan) : weights;
}

void forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
             const Epilogue& epilogue, float* workspace) {
  const DepthwisePlan plan = forward_plan(p);
  pack_weights(p, w, {plan.h}, {plan.w}, plan.pitch(), workspace);
  const RepeatedChannels repeated(p.in_c, plan.multiplier);
  EpiloguePieces pieces(epilogue, plan.tasks(), plan.batch * plan.h.count * plan.w.count, p.out_c, y);
  parallel_for(plan.tasks(), [&](int64_t i) {
    const DepthwisePlan::Task t = plan.task(i);
    plan.each_run(t, [&](const DepthwiseRun& run) {
      depthwise_run(plan, run, DepthwiseFill{workspace, bias, y}, x, repeated, run.dst * p.out_c,
                    run.dst_step * p.out_c);
    });
    for (int64_t n = t.n; n < t.n + t.images; ++n)
      pieces.add(i, (n * plan.h.count + t.row) * plan.w.count, t.rows * plan.w.count, 0, p.out_c);
  });
  pieces.finish();
}

/// dst[c] = the sum of the wide channels of c.
void add_up(const DepthwisePlan& plan, const float* wide, float* dst) {
  const int64_t channels = plan.wide / plan.multiplier, m = plan.multiplier;
  if (m == 2) {
    for (int64_t c = 0; c < channels; ++c) dst[c] = wide[2 * c] + wide[2 * c + 1];
    return;
  }
  for (int64_t c = 0; c < channels; ++c) {
    float sum = wide[c * m];
    for (int64_t j = 1; j < m; ++j) sum += wide[c * m + j];
    dst[c] = sum;
  }
}

/// The input gradient at the positions of two parity classes.
void fill_class(const DepthwisePlan& plan, const float* dy, const float* weights, float* dx) {
  const int64_t channels = plan.wide / plan.multiplier;
  const RepeatedChannels as_they_are(plan.wide, 1);
  parallel_for(plan.tasks(), [&](int64_t i) {
    const Scratch wide(plan.multiplier > 1 ? kDepthwiseTile * plan.pitch() : 0);
    plan.each_run(plan.task(i), [&](const DepthwiseRun& run) {
      const int64_t dst = run.dst * channels, step = run.dst_step * channels;
      if (plan.multiplier == 1)
        return depthwise_run(plan, run, DepthwiseFill{weights, nullptr, dx}, dy, as_they_are, dst, step);
      DepthwiseRun tile = run;
      for (int64_t r = 0; r < run.count; r += tile.count, tile.src += tile.count * run.src_step) {
        tile.count = smaller(kDepthwiseTile, run.count - r);
        depthwise_run(plan, tile, DepthwiseFill{weights, nullptr, wide.get()}, dy, as_they_are, 0,
                      plan.pitch());
        for (int64_t j = 0; j < tile.count; ++j)
          add_up(plan, wide.get() + j * plan.pitch(), dx + dst + (r + j) * step);
      }
    });
  });
}

void backward_input(const Conv2dParams& p, const float* dy, const float* w, float* dx, float* workspace) {
  for (int64_t a = 0; a < smaller(p.stride_h, p.in_h); ++a)
    for (int64_t b = 0; b < smaller(p.stride_w, p.in_w); ++b) {
      ParityClass h = parity_class(a, p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h);
      ParityClass v = parity_class(b, p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w);
      const bool reached = h.axis.taps > 0 && v.axis.taps > 0;
      h = ascending(h), v = ascending(v);
      if (!reached) h.axis.taps = v.axis.taps = 0, h.axis.tap_step = v.axis.tap_step = 1;  // empty sums
      const DepthwisePlan plan = plan_of(p, h.axis, v.axis);
      pack_weights(p, w, h, v, plan.pitch(), workspace);
      fill_class(plan, dy, workspace, dx);
    }
}

void backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw, float* workspace) {
  const DepthwisePlan plan = forward_plan(p);
  const int64_t parts = weight_parts(plan), floats = plan.taps() * plan.pitch();
  const RepeatedChannels repeated(p.in_c, plan.multiplier);
  parallel_for(parts, [&](int64_t part) {
    const DepthwiseSum sum{dy, workspace + part * floats};
    clear(sum.sums, floats);
    for (int64_t i = part * plan.tasks() / parts; i < (part + 1) * plan.tasks() / parts; ++i)
      plan.each_run(plan.task(i), [&](const DepthwiseRun& run) {
        depthwise_run(plan, run, sum, x, repeated, run.dst * p.out_c, run.dst_step * p.out_c);
      });
  });
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < floats; ++i) workspace[i] += workspace[part * floats + i];
  transpose(workspace, plan.pitch(), p.out_c, plan.taps(), dw, plan.taps());
}

constexpr Convolution kDepthwise = {workspace, forward, backward_input, backward_weight};

}  // namespace

bool depthwise_suits(const Conv2dParams& p) { return p.groups > 1 && p.groups == p.in_c; }

const Convolution& depthwise_convolution() { return kDepthwise; }

}  // namespace weft::kernels::WEFT_ISA
