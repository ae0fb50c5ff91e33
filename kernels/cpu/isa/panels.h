// Packing of a right-hand side [depth, columns] into the panels that the register tile reads: panel after
// panel of kPanel columns (the last one as many vectors as it needs), each [depth][columns of the panel],
// padded with zeros.
#pragma once

#include "weft/kernels/cpu/isa/tile.h"

namespace weft::kernels::WEFT_ISA {

WEFT_INLINE int64_t panel_count(int64_t columns) { return ceil_div(columns, kPanel); }
/// Real columns of panel i.
WEFT_INLINE int64_t panel_columns(int64_t columns, int64_t i) {
  return smaller(kPanel, columns - i * kPanel);
}
/// Floats of all panels, and where panel i begins.
WEFT_INLINE int64_t panels_size(int64_t depth, int64_t columns) { return depth * round_up(columns, kWidth); }
WEFT_INLINE int64_t panel_offset(int64_t depth, int64_t i) { return depth * i * kPanel; }

/// dst[k][c] = src[k * depth_stride + c * column_stride] for c < columns, 0 up to the next whole vector; or
/// pairs (pairs.h) along the depth, half as many. One of the strides is 1.
void pack_panel(const float* src, int64_t depth, int64_t depth_stride, int64_t columns, int64_t column_stride,
                float* dst, bool pairs = false);

/// dst[r][c] = src[c * src_pitch + r].
void transpose(const float* src, int64_t src_pitch, int64_t rows, int64_t columns, float* dst,
               int64_t dst_pitch);

}  // namespace weft::kernels::WEFT_ISA
