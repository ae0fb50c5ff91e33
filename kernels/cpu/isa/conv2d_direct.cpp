// Direct convolution on the register tile: forward and input gradient.
#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/conv2d_axes.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Up to so many input channels a whole filter row is taken as one tap.
constexpr int64_t kFewChannels = 8;

/// Packs the weights of the taps (first + a * step) of each direction, seen as [taps, depth] x width per
/// group; transposed: depth runs over the output channels and width over the input channels.
void pack_weights(const Conv2dParams& p, const float* w, const ParityClass& h, const ParityClass& v,
                  bool transposed, float* panels) {
  const int64_t in_c = p.in_c / p.groups, out_c = p.out_c / p.groups, taps = p.kernel_h * p.kernel_w;
  const int64_t depth = transposed ? out_c : in_c, width = transposed ? in_c : out_c;
  const int64_t used = h.axis.taps * v.axis.taps, inner = used * depth, count = panel_count(width);
  parallel_for(p.groups * count * used, [&](int64_t task) {
    const int64_t tap = task % used, panel = task / used % count, group = task / used / count;
    const int64_t kh = h.first_tap + tap / v.axis.taps * h.tap_step,
                  kw = v.first_tap + tap % v.axis.taps * v.tap_step;
    const int64_t columns = panel_columns(width, panel);
    const float* src = w + (group * out_c * taps + kh * p.kernel_w + kw) * in_c;
    float* dst = panels + group * panels_size(inner, width) + panel_offset(inner, panel) +
                 tap * depth * round_up(columns, kWidth);
    if (transposed)
      pack_panel(src + panel * kPanel, depth, taps * in_c, columns, 1, dst);
    else
      pack_panel(src + panel * kPanel * taps * in_c, depth, 1, columns, taps * in_c, dst);
  });
}

void fill_zero(float* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = 0;
}

// Panels, and behind them zeros for one pixel.
int64_t workspace(const Conv2dParams& p, ConvPass pass) {
  if (pass == ConvPass::backward_weight) return direct_weight_workspace(p);
  const int64_t in_c = p.in_c / p.groups, out_c = p.out_c / p.groups, taps = p.kernel_h * p.kernel_w;
  const bool forward = pass == ConvPass::forward;
  const int64_t depth = forward ? in_c : out_c, width = forward ? out_c : in_c;
  return (round_up(p.groups * panels_size(taps * depth, width), 16) + larger(depth, kMaxMerged)) *
         int64_t(sizeof(float));
}

void forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
             const ChannelStats& stats, float* workspace) {
  ParityClass h, v;
  h.axis = forward_axis(p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h);
  v.axis = forward_axis(p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w);
  pack_weights(p, w, h, v, false, workspace);
  Lattice t;
  t.batch = p.batch;
  t.groups = p.groups;
  t.depth = p.in_c / p.groups;
  t.width = p.out_c / p.groups;
  t.h = h.axis;
  t.w = v.axis;
  t.src_pitch = p.in_c;
  t.dst_pitch = p.out_c;
  t.src = x;
  t.dst = y;
  t.bias = bias;
  t.stats = stats;
  t.panels = workspace;
  if (p.groups == 1 && p.in_c <= kFewChannels && p.dilation_w == 1 && p.kernel_w * p.in_c <= kMaxMerged &&
      p.kernel_h <= kMaxMergedTaps) {
    t.merged = p.kernel_w;
    t.depth *= p.kernel_w;
    t.w.taps = 1;
  }
  float* zeros = workspace + round_up(t.panels_size(), 16);
  fill_zero(zeros, t.depth);
  t.zeros = zeros;
  run_lattice(t);
}

/// Zero at the input positions of this class, which no tap reaches.
void clear_class(const Conv2dParams& p, const Axis& h, const Axis& v, float* dx) {
  parallel_for(p.batch * h.count, [&](int64_t task) {
    const int64_t n = task / h.count, i = task - n * h.count;
    float* row = dx + (n * p.in_h + h.dst_first + i * h.dst_step) * p.in_w * p.in_c;
    for (int64_t j = 0; j < v.count; ++j) fill_zero(row + (v.dst_first + j * v.dst_step) * p.in_c, p.in_c);
  });
}

void backward_input(const Conv2dParams& p, const float* dy, const float* w, float* dx, float* workspace) {
  Lattice t;
  t.batch = p.batch;
  t.groups = p.groups;
  t.depth = p.out_c / p.groups;
  t.width = p.in_c / p.groups;
  t.src_pitch = p.out_c;
  t.dst_pitch = p.in_c;
  t.src = dy;
  t.dst = dx;
  t.panels = workspace;
  const int64_t taps = p.kernel_h * p.kernel_w;
  float* zeros = workspace + round_up(p.groups * panels_size(taps * t.depth, t.width), 16);
  fill_zero(zeros, t.depth);
  t.zeros = zeros;
  for (int64_t a = 0; a < smaller(p.stride_h, p.in_h); ++a) {
    for (int64_t b = 0; b < smaller(p.stride_w, p.in_w); ++b) {
      const ParityClass h = parity_class(a, p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h);
      const ParityClass v = parity_class(b, p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w);
      if (h.axis.taps == 0 || v.axis.taps == 0) {
        clear_class(p, h.axis, v.axis, dx);
        continue;
      }
      pack_weights(p, w, h, v, true, workspace);
      t.h = h.axis;
      t.w = v.axis;
      run_lattice(t);
    }
  }
}

constexpr Convolution kDirect = {workspace, forward, backward_input, direct_backward_weight};

}  // namespace

double direct_cost(const Conv2dParams& params, ConvPass pass) {
  const Conv2dParams p = as_forward(params, pass);
  // Of the multiply-add peak; and what packing a vector of weights costs, in multiply-adds.
  constexpr double kEfficiency = 0.85, kPacking = 8;
  // The weight gradient leaves out what the taps meet outside of the image.
  const auto pairs = [&](int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                         int64_t dilation) {
    if (pass != ConvPass::backward_weight) return out * kernel;
    int64_t count = 0;
    for (int64_t k = 0; k < kernel; ++k) {
      const TapRange range = tap_range(in, out, stride, pad, dilation, k);
      count += larger(0, range.end - range.begin);
    }
    return count;
  };
  const int64_t rows = pairs(p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h);
  const int64_t columns = pairs(p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w);
  const double vectors = double(p.in_c / p.groups) * double(ceil_div(p.out_c, kWidth));
  const double packing = pass == ConvPass::backward_weight ? 0 : kPacking * double(p.kernel_h * p.kernel_w);
  return (double(p.batch * rows * columns) / kEfficiency + packing) * vectors;
}

const Convolution& direct_convolution() { return kDirect; }

}  // namespace weft::kernels::WEFT_ISA
