// The register tile under convolution and matrix multiply: some rows times some vectors of columns, held in
// registers while the inner dimension runs. Rows are reached through pointers, so a row can be a pixel of an
// image (one pointer a filter tap, a zero buffer for padding) as well as a row of a matrix; nothing is copied
// together first.
#pragma once

#include "weft/kernels/cpu/isa/vec.h"

namespace weft::kernels::WEFT_ISA {

// 32 registers hold 24 to 28 accumulators, 16 hold 12.
#if defined(WEFT_ISA_avx512) || defined(WEFT_ISA_neon)
constexpr int kPanelVecs = 4;
constexpr int tile_rows(int vecs) { return vecs == 4 ? 6 : vecs == 1 ? 12 : 8; }
#else
constexpr int kPanelVecs = 2;
constexpr int tile_rows(int vecs) { return vecs == 2 ? 6 : 8; }
#endif
constexpr int kMaxTileRows = 12;
/// Columns of a full panel of the packed right-hand side.
constexpr int kPanel = kPanelVecs * kWidth;

enum class TileStart { zero, bias, accumulate };

/// dst[r][0..cols) = start + sum over taps and k of src[tap * rows + r][k] * panel[tap][k][0..cols).
struct Tile {
  const float* const* src;  // [taps][rows]
  int64_t taps, depth;      // depth: k of each tap
  const float* panel;       // [taps][depth][vecs * kWidth], aligned
  float* const* dst;        // [rows]
  int cols;                 // how many columns are real
  TileStart start;
  const float* bias;                    // [cols]
  const float* const* ahead = nullptr;  // src of the next tile, of as many rows, fetched meanwhile, or null
};

/// The tile of `rows` rows (1 to tile_rows(vecs)) and `vecs` vectors, of floats or of pairs (pairs.h).
using TileFunction = void (*)(const Tile&);
TileFunction tile_function(int rows, int vecs, bool pairs);

/// The rows of the next tile where `left` are left and a tile has at most `most`: all about the same.
WEFT_INLINE int next_rows(int64_t left, int64_t most) { return int(ceil_div(left, ceil_div(left, most))); }

/// A stretch of pixels of one image row: x and dy advance by fixed steps.
struct Segment {
  const float *x, *dy;
  int64_t count;
};

/// dst[r][0..vecs * kWidth) (+)= sum over the segments' pixels of dy[pixel][r] * x[pixel][0..vecs * kWidth).
struct OuterTile {
  const Segment* segments;
  int64_t segment_count, x_offset, dy_offset, x_step, dy_step;
  float* dst;
  int64_t dst_pitch;
  bool accumulate;
  // With every kAheadPixels pixels of a segment the kAheadFloats floats from `ahead` on are asked into the L2
  // cache, and ahead advances by ahead_step; null for none.
  const float* ahead = nullptr;
  int64_t ahead_step = 0;
};
constexpr int64_t kAheadPixels = 4, kAheadFloats = 64;
constexpr int kOuterRows = 6;
using OuterFunction = void (*)(const OuterTile&);
OuterFunction outer_function(int rows, int vecs, bool pairs);

}  // namespace weft::kernels::WEFT_ISA
