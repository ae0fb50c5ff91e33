// Compiled for AVX-512 BF16 where the instruction set is AVX-512.
#include "weft/kernels/cpu/isa/pairs.h"

#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/panels.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {

bool multiplies_bf16() {
#if defined(WEFT_ISA_avx512)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

#if defined(WEFT_ISA_avx512)

namespace {

/// (a0, a1), (a2, a3) .. (b14, b15): 16 pairs of neighbours.
WEFT_INLINE Vec neighbours(Vec a, Vec b) {
  return Vec(FloatLanes(_mm512_cvtne2ps_pbh(__m512(b.v), __m512(a.v))));
}
/// (a0, b0), (a1, b1) .. (a15, b15).
WEFT_INLINE Vec lanes_of_both(Vec a, Vec b) {
  alignas(64) static constexpr int16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                     21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                     11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i halves = __m512i(_mm512_cvtne2ps_pbh(__m512(b.v), __m512(a.v)));
  return Vec(FloatLanes(_mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), halves))));
}

/// The first n floats from p on, n as any number; zeros behind them.
WEFT_INLINE Vec load_some(const float* p, int64_t n) {
  return n >= kWidth ? Vec::load(p) : n > 0 ? Vec::load_first(p, n) : Vec(0.0f);
}

void pair_row(const float* src, int64_t count, float* dst) {
  int64_t i = 0;
  for (; i + 2 * kWidth <= count; i += 2 * kWidth)
    neighbours(Vec::load(src + i), Vec::load(src + i + kWidth)).store(dst + i / 2);
  if (i < count)
    neighbours(load_some(src + i, count - i), load_some(src + i + kWidth, count - i - kWidth))
        .store_first(dst + i / 2, (count - i + 1) / 2);
}

/// dst[c] = (a[c], b[c]), of zeros where b is null; zeros up to the next whole vector.
WEFT_INLINE void pair_both(const float* a, const float* b, int64_t count, float* dst) {
  int64_t c = 0;
  for (; c + kWidth <= count; c += kWidth)
    lanes_of_both(Vec::load(a + c), b ? Vec::load(b + c) : Vec(0.0f)).store(dst + c);
  if (c < count)
    lanes_of_both(load_some(a + c, count - c), b ? load_some(b + c, count - c) : Vec(0.0f)).store(dst + c);
}

}  // namespace

void pair_rows(const float* src, int64_t src_pitch, int64_t rows, int64_t count, float* dst,
               int64_t dst_pitch) {
  for (int64_t r = 0; r < rows; ++r) pair_row(src + r * src_pitch, count, dst + r * dst_pitch);
}

void pair_all(const float* src, int64_t count, float* dst) {
  constexpr int64_t kPart = 1 << 15;
  parallel_for(ceil_div(count, kPart), [&](int64_t i) {
    pair_row(src + i * kPart, smaller(kPart, count - i * kPart), dst + i * kPart / 2);
  });
}

int64_t pair_pixels(const Segment* segments, int64_t segment_count, const float* Segment::*base, int64_t step,
                    int64_t offset, int64_t count, float* dst) {
  const int64_t pitch = round_up(count, kWidth);
  const float* before = nullptr;  // a pixel without its partner
  int64_t pairs = 0;
  for (const Segment* s = segments; s < segments + segment_count; ++s) {
    const float* pixel = s->*base + offset;
    int64_t left = s->count;
    if (before && left > 0) {
      pair_both(before, pixel, count, dst + pairs++ * pitch);
      before = nullptr, pixel += step, --left;
    }
    for (; left >= 2; left -= 2, pixel += 2 * step)
      pair_both(pixel, pixel + step, count, dst + pairs++ * pitch);
    if (left > 0) before = pixel;
  }
  if (before) pair_both(before, nullptr, count, dst + pairs++ * pitch);
  return pairs;
}

void pack_pair_panel(const float* src, int64_t depth, int64_t depth_stride, int64_t columns,
                     int64_t column_stride, float* dst) {
  const int64_t pairs = ceil_div(depth, 2);
  if (column_stride == 1) {
    for (int64_t k = 0; k < pairs; ++k) {
      const float* row = src + 2 * k * depth_stride;
      pair_both(row, 2 * k + 1 < depth ? row + depth_stride : nullptr, columns,
                dst + k * round_up(columns, kWidth));
    }
    return;
  }
  const Scratch rows(columns * pairs);
  pair_rows(src, column_stride, columns, depth, rows.get(), pairs);
  pack_panel(rows.get(), pairs, 1, columns, pairs, dst);
}

#endif

}  // namespace weft::kernels::WEFT_ISA
