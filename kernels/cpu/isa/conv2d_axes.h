// The axes of a convolution's passes as lattices.
#pragma once

#include "weft/kernels/cpu/isa/lattice.h"

namespace weft::kernels::WEFT_ISA {

/// One axis of the forward pass.
inline Axis forward_axis(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                         int64_t dilation) {
  Axis a;
  a.count = a.dst = out;
  a.taps = kernel;
  a.source = in;
  a.step = stride;
  a.first = -pad;
  a.tap_step = dilation;
  return a;
}

/// The input positions first, first + stride, ... that a filter meets with the same taps, and those taps:
/// kernel index first_tap + a * tap_step.
struct ParityClass {
  Axis axis;
  int64_t first_tap = 0, tap_step = 1;
};

inline int64_t greatest_common_divisor(int64_t a, int64_t b) {
  return b == 0 ? a : greatest_common_divisor(b, a % b);
}

/// For first < in. Input position i gets dy[o] * w[k] where o * stride - pad + k * dilation = i. For i =
/// first + stride * j the k that divide evenly are an arithmetic progression and o = j + (first + pad - k *
/// dilation) / stride.
inline ParityClass parity_class(int64_t first, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                                int64_t pad, int64_t dilation) {
  ParityClass c;
  c.axis.count = ceil_div(in - first, stride);
  c.axis.source = out;
  c.axis.dst = in;
  c.axis.dst_step = stride;
  c.axis.dst_first = first;
  const int64_t common = greatest_common_divisor(stride, dilation);
  c.tap_step = stride / common;
  c.axis.tap_step = -(dilation / common);
  int64_t k = 0;
  while (k < smaller(kernel, c.tap_step) && (first + pad - k * dilation) % stride != 0) ++k;
  c.first_tap = k;
  c.axis.taps = k < smaller(kernel, c.tap_step) ? ceil_div(kernel - k, c.tap_step) : 0;
  c.axis.first = c.axis.taps > 0 ? (first + pad - k * dilation) / stride : 0;
  return c;
}

/// The same taps in the order in which the source runs.
inline ParityClass ascending(ParityClass c) {
  if (c.axis.tap_step >= 0) return c;
  c.first_tap += (c.axis.taps - 1) * c.tap_step;
  c.tap_step = -c.tap_step;
  c.axis.first += (c.axis.taps - 1) * c.axis.tap_step;
  c.axis.tap_step = -c.axis.tap_step;
  return c;
}

}  // namespace weft::kernels::WEFT_ISA
