// Pairs of bf16 in the place of floats: what lies at neighbouring positions of the dimension that is summed
// up stands in one 32-bit element, so that one instruction multiplies and adds two. Lattices, panels and
// tiles work on pairs as they do on floats. Only where multiplies_bf16() (kernels.h).
#pragma once

#include "weft/kernels/cpu/isa/tile.h"

namespace weft::kernels::WEFT_ISA {

#if defined(WEFT_ISA_avx512)
constexpr bool kPairs = true;
#else
constexpr bool kPairs = false;  // then none of the functions below is defined
#endif

/// What tile_function() and outer_function() return for pairs: depth, steps and pitches count these.
TileFunction pair_tile_function(int rows, int vecs);
OuterFunction pair_outer_function(int rows, int vecs);

/// Pairs along rows: dst[r][i] = (src[r][2 i], src[r][2 i + 1]), zero in the place of src[r][count].
void pair_rows(const float* src, int64_t src_pitch, int64_t rows, int64_t count, float* dst,
               int64_t dst_pitch);
/// pair_rows() of one long row of an even number of floats, by all threads.
void pair_all(const float* src, int64_t count, float* dst);
/// Pairs of pixels: those of the segments, one behind the other, at `offset`: dst[i][0..count) are pixels 2 i
/// and 2 i + 1, the last one with zeros where their number is odd. Returns how many pairs.
int64_t pair_pixels(const Segment* segments, int64_t segment_count, const float* Segment::*base, int64_t step,
                    int64_t offset, int64_t count, float* dst);
/// What pack_panel() does for pairs.
void pack_pair_panel(const float* src, int64_t depth, int64_t depth_stride, int64_t columns,
                     int64_t column_stride, float* dst);

}  // namespace weft::kernels::WEFT_ISA
