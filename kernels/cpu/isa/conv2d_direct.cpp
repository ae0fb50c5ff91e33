// Direct convolution on the register tile: forward and input gradient.
#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/conv2d_axes.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Up to so many input channels a whole filter row is taken as one tap.
constexpr int64_t kFewChannels = 8;

/// Elements of a depth of so many channels.
int64_t elements(bool pairs, int64_t channels) { return pairs ? channels / 2 : channels; }

/// Packs the weights of the taps (first + a * step) of each direction, seen as [taps, depth] x width per
/// group; transposed: depth runs over the output channels and width over the input channels.
void pack_weights(const Conv2dParams& p, const float* w, const ParityClass& h, const ParityClass& v,
                  bool transposed, bool pairs, float* panels) {
  const int64_t in_c = p.in_c / p.groups, out_c = p.out_c / p.groups, taps = p.kernel_h * p.kernel_w;
  const int64_t depth = transposed ? out_c : in_c, width = transposed ? in_c : out_c;
  const int64_t used = h.axis.taps * v.axis.taps, inner = used * elements(pairs, depth),
                count = panel_count(width);
  parallel_for(p.groups * count * used, [&](int64_t task) {
    const int64_t tap = task % used, panel = task / used % count, group = task / used / count;
    const int64_t kh = h.first_tap + tap / v.axis.taps * h.tap_step,
                  kw = v.first_tap + tap % v.axis.taps * v.tap_step;
    const int64_t columns = panel_columns(width, panel);
    const float* src = w + (group * out_c * taps + kh * p.kernel_w + kw) * in_c;
    float* dst = panels + group * panels_size(inner, width) + panel_offset(inner, panel) +
                 tap * elements(pairs, depth) * round_up(columns, kWidth);
    if (transposed)
      pack_panel(src + panel * kPanel, depth, taps * in_c, columns, 1, dst, pairs);
    else
      pack_panel(src + panel * kPanel * taps * in_c, depth, 1, columns, taps * in_c, dst, pairs);
  });
}

void fill_zero(float* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = 0;
}

/// Whether the pixels of input and output are the same, so that they become pairs as they are read.
bool is_pointwise(const Conv2dParams& p) {
  return p.kernel_h * p.kernel_w * p.stride_h * p.stride_w == 1 && p.pad_h == 0 && p.pad_w == 0 &&
         p.groups == 1;
}

/// What a pass needs beside the packed weights: zeros for a pixel, and the source as pairs, in floats.
struct Extra {
  int64_t zeros = 0, source = 0;
  bool pairs = false;

  Extra(const Conv2dParams& p, ConvPass pass) : pairs(pairs_suit(p, pass)) {
    const bool forward = pass == ConvPass::forward;
    zeros = round_up(larger((forward ? p.in_c : p.out_c) / p.groups, kMaxMerged), 16);
    if (pairs && !is_pointwise(p))
      source = p.batch * (forward ? p.in_h * p.in_w * p.in_c : out_h(p) * out_w(p) * p.out_c) / 2;
  }
};

/// Floats of the packed weights.
int64_t panel_floats(const Conv2dParams& p, ConvPass pass) {
  const int64_t in_c = p.in_c / p.groups, out_c = p.out_c / p.groups;
  const bool forward = pass == ConvPass::forward;
  const int64_t depth = elements(pairs_suit(p, pass), forward ? in_c : out_c);
  return round_up(p.groups * panels_size(p.kernel_h * p.kernel_w * depth, forward ? out_c : in_c), 16);
}

int64_t workspace(const Conv2dParams& p, ConvPass pass) {
  if (pass == ConvPass::backward_weight) return direct_weight_workspace(p);
  const Extra extra(p, pass);
  return (panel_floats(p, pass) + extra.zeros + extra.source) * int64_t(sizeof(float));
}

/// The part of a lattice that forward and input gradient have in common.
Lattice start_lattice(const Conv2dParams& p, ConvPass pass, const float* src, float* dst, const float* panels,
                      float* rest) {
  const bool forward = pass == ConvPass::forward;
  const Extra extra(p, pass);
  Lattice t;
  t.batch = p.batch;
  t.groups = p.groups;
  t.depth = (forward ? p.in_c : p.out_c) / p.groups;
  t.width = (forward ? p.out_c : p.in_c) / p.groups;
  t.src_pitch = forward ? p.in_c : p.out_c;
  t.dst_pitch = forward ? p.out_c : p.in_c;
  t.src = src;
  t.dst = dst;
  t.panels = panels;
  t.zeros = rest;
  fill_zero(rest, extra.zeros);
  if constexpr (kPairs) {
    if (!extra.pairs) return t;
    t.pairs = true;
    if (extra.source == 0) {
      t.plain_depth = t.depth;
    } else {
      pair_all(src, 2 * extra.source, rest + extra.zeros);
      t.src = rest + extra.zeros;
      t.src_pitch /= 2;
    }
    t.depth /= 2;
  }
  return t;
}

/// The axes of a forward pass: rows and columns.
struct ForwardAxes {
  ParityClass h, v;

  explicit ForwardAxes(const Conv2dParams& p) {
    h.axis = forward_axis(p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h);
    v.axis = forward_axis(p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w);
  }
};

void run_forward(const Conv2dParams& p, const float* x, const float* panels, const float* bias, float* y,
                 const Epilogue& epilogue, float* rest) {
  const ForwardAxes axes(p);
  Lattice t = start_lattice(p, ConvPass::forward, x, y, panels, rest);
  t.h = axes.h.axis;
  t.w = axes.v.axis;
  t.bias = bias;
  t.epilogue = epilogue;
  if (!t.pairs && p.groups == 1 && p.in_c <= kFewChannels && p.dilation_w == 1 &&
      p.kernel_w * p.in_c <= kMaxMerged && p.kernel_h <= kMaxMergedTaps) {
    t.merged = p.kernel_w;
    t.depth *= p.kernel_w;
    t.w.taps = 1;
  }
  run_lattice(t);
}

void forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
             const Epilogue& epilogue, float* workspace) {
  direct_pack(p, w, workspace);
  run_forward(p, x, workspace, bias, y, epilogue, workspace + panel_floats(p, ConvPass::forward));
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
  const ConvPass pass = ConvPass::backward_input;
  Lattice t = start_lattice(p, pass, dy, dx, workspace, workspace + panel_floats(p, pass));
  for (int64_t a = 0; a < smaller(p.stride_h, p.in_h); ++a) {
    for (int64_t b = 0; b < smaller(p.stride_w, p.in_w); ++b) {
      const ParityClass h = parity_class(a, p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h);
      const ParityClass v = parity_class(b, p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w);
      if (h.axis.taps == 0 || v.axis.taps == 0) {
        clear_class(p, h.axis, v.axis, dx);
        continue;
      }
      pack_weights(p, w, h, v, true, t.pairs, workspace);
      t.h = h.axis;
      t.w = v.axis;
      run_lattice(t);
    }
  }
}

constexpr Convolution kDirect = {workspace, forward, backward_input, direct_backward_weight};

}  // namespace

int64_t direct_packed_floats(const Conv2dParams& p) { return panel_floats(p, ConvPass::forward); }

void direct_pack(const Conv2dParams& p, const float* w, float* packed) {
  const ForwardAxes axes(p);
  pack_weights(p, w, axes.h, axes.v, false, pairs_suit(p, ConvPass::forward), packed);
}

void direct_forward_packed(const Conv2dParams& p, const float* x, const float* packed, const float* bias,
                           float* y, const Epilogue& epilogue) {
  const Extra extra(p, ConvPass::forward);
  const Scratch rest(extra.zeros + extra.source);
  run_forward(p, x, packed, bias, y, epilogue, rest.get());
}

double direct_cost(const Conv2dParams& params, ConvPass pass, bool packed) {
  const Conv2dParams p = as_forward(params, pass);
  // Of the multiply-add peak; and what packing a vector of weights costs, in multiply-adds.
  constexpr double kEfficiency = 0.85, kPairEfficiency = 1.5, kPacking = 8;
  const double efficiency = pairs_suit(params, pass) ? kPairEfficiency : kEfficiency;
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
  const double packing =
      packed || pass == ConvPass::backward_weight ? 0 : kPacking * double(p.kernel_h * p.kernel_w);
  return (double(p.batch * rows * columns) / efficiency + packing) * vectors;
}

const Convolution& direct_convolution() { return kDirect; }

}  // namespace weft::kernels::WEFT_ISA
