// The one loop nest behind convolution forward, its input gradient and matrix multiply: every destination
// pixel is a sum over a lattice of taps of (source pixel) x (matrix of that tap).
#pragma once

#include "weft/kernels/cpu/isa/epilogue.h"
#include "weft/kernels/cpu/isa/pairs.h"
#include "weft/kernels/cpu/isa/panels.h"

namespace weft::kernels::WEFT_ISA {

/// One direction of the lattice. Destination pixel i and tap a meet source pixel i * step + first + a *
/// tap_step, which counts as zero outside [0, source); i stands at dst_first + i * dst_step in the
/// destination image.
struct Axis {
  int64_t count = 1, taps = 1;  // destination pixels, taps
  int64_t source = 1, step = 1, first = 0, tap_step = 1;
  int64_t dst = 1, dst_step = 1, dst_first = 0;  // dst: size of the destination image
};

/// Largest merged row, and rows of taps with it.
constexpr int64_t kMaxMerged = 64, kMaxMergedTaps = 8;

struct Lattice {
  int64_t batch = 1, groups = 1;
  int64_t depth = 1, width = 1;  // source and destination channels of a group
  Axis h, w;
  int64_t src_pitch = 0, dst_pitch = 0;  // floats from pixel to pixel
  const float* src = nullptr;
  float* dst = nullptr;
  const float* panels = nullptr;  // [group][panels of (taps h, taps w, depth) x width]
  const float* bias = nullptr;    // [groups * width] or null
  const float* zeros = nullptr;   // depth zeros; needed where a tap can fall outside
  bool accumulate = false;        // dst += ...
  bool lower = false;             // no panels of pixels that come before its first column
  Epilogue epilogue;              // of dst, which must then be dense
  // A filter row of this many neighbouring pixels counts as one tap with merged * src_pitch channels (then
  // w.taps = 1): worth it where a pixel has only a few channels.
  int64_t merged = 1;
  // Panels and source are of pairs (pairs.h), and so are depth and src_pitch. With plain_depth the source
  // still is of floats, so many a pixel and src_pitch apart; it must have one group and pixels in the
  // destination's order, as in a matrix product, and becomes pairs as it is read.
  bool pairs = false;
  int64_t plain_depth = 0;

  int64_t inner() const { return h.taps * w.taps * depth; }
};

/// Runs it on the thread pool.
void run_lattice(const Lattice& t);

}  // namespace weft::kernels::WEFT_ISA
