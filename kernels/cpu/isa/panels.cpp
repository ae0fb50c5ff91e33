#include "weft/kernels/cpu/isa/panels.h"

#include "weft/kernels/cpu/isa/pairs.h"

namespace weft::kernels::WEFT_ISA {
namespace {

/// dst[r][c] = src[c][r], 4 by 4.
WEFT_INLINE void transpose4(const float* src, int64_t src_pitch, float* dst, int64_t dst_pitch) {
#if defined(__x86_64__)
  __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + src_pitch), c = _mm_loadu_ps(src + 2 * src_pitch),
         d = _mm_loadu_ps(src + 3 * src_pitch);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(dst, a);
  _mm_storeu_ps(dst + dst_pitch, b);
  _mm_storeu_ps(dst + 2 * dst_pitch, c);
  _mm_storeu_ps(dst + 3 * dst_pitch, d);
#elif defined(WEFT_ISA_neon)
  const float32x4_t a = vld1q_f32(src), b = vld1q_f32(src + src_pitch), c = vld1q_f32(src + 2 * src_pitch),
                    d = vld1q_f32(src + 3 * src_pitch);
  const float32x4_t ac_low = vzip1q_f32(a, c), ac_high = vzip2q_f32(a, c), bd_low = vzip1q_f32(b, d),
                    bd_high = vzip2q_f32(b, d);
  vst1q_f32(dst, vzip1q_f32(ac_low, bd_low));
  vst1q_f32(dst + dst_pitch, vzip2q_f32(ac_low, bd_low));
  vst1q_f32(dst + 2 * dst_pitch, vzip1q_f32(ac_high, bd_high));
  vst1q_f32(dst + 3 * dst_pitch, vzip2q_f32(ac_high, bd_high));
#else
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) dst[r * dst_pitch + c] = src[c * src_pitch + r];
#endif
}

#if defined(WEFT_ISA_avx512) || defined(WEFT_ISA_avx2)
/// dst[r][c] = src[c][r], 8 by 8: as two squares of 4 by 4 in the halves of each vector. Halves that are
/// brought together by loads leave only the shuffles within halves.
WEFT_INLINE void transpose8(const float* src, int64_t src_pitch, float* dst, int64_t dst_pitch) {
#pragma GCC unroll 2
  for (int r = 0; r < 8; r += 4) {
    __m256 row[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c)
      row[c] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(src + c * src_pitch + r)),
                                    _mm_loadu_ps(src + (c + 4) * src_pitch + r), 1);
    const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(row[0], row[1]));
    const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(row[0], row[1]));
    const __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(row[2], row[3]));
    const __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(row[2], row[3]));
    float* const to = dst + r * dst_pitch;
    _mm256_storeu_ps(to, _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23)));
    _mm256_storeu_ps(to + dst_pitch, _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23)));
    _mm256_storeu_ps(to + 2 * dst_pitch, _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23)));
    _mm256_storeu_ps(to + 3 * dst_pitch, _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23)));
  }
}
#endif

}  // namespace

void transpose(const float* src, int64_t src_pitch, int64_t rows, int64_t columns, float* dst,
               int64_t dst_pitch) {
  // Strips of 16 rows: one cache line of each source row is used up before the next.
  for (int64_t r0 = 0; r0 < rows; r0 += 16) {
    const int64_t r1 = smaller(rows, r0 + 16);
    int64_t c = 0;
#if defined(WEFT_ISA_avx512) || defined(WEFT_ISA_avx2)
    for (; r1 - r0 == 16 && c + 8 <= columns; c += 8) {
      for (int64_t i = c; i < c + 8; ++i) __builtin_prefetch(src + i * src_pitch + r1);
      for (int64_t r = r0; r < r1; r += 8)
        transpose8(src + c * src_pitch + r, src_pitch, dst + r * dst_pitch + c, dst_pitch);
    }
#endif
    for (; c + 4 <= columns; c += 4) {
      int64_t r = r0;
      for (int64_t i = c; i < c + 4; ++i) __builtin_prefetch(src + i * src_pitch + r0 + 16);
      for (; r + 4 <= r1; r += 4)
        transpose4(src + c * src_pitch + r, src_pitch, dst + r * dst_pitch + c, dst_pitch);
      for (; r < r1; ++r)
        for (int64_t i = c; i < c + 4; ++i) dst[r * dst_pitch + i] = src[i * src_pitch + r];
    }
    for (; c < columns; ++c)
      for (int64_t r = r0; r < r1; ++r) dst[r * dst_pitch + c] = src[c * src_pitch + r];
  }
}

void pack_panel(const float* src, int64_t depth, int64_t depth_stride, int64_t columns, int64_t column_stride,
                float* dst, bool pairs) {
  if constexpr (kPairs)
    if (pairs) return pack_pair_panel(src, depth, depth_stride, columns, column_stride, dst);
  const int64_t pitch = round_up(columns, kWidth);
  if (column_stride == 1) {
    for (int64_t k = 0; k < depth; ++k, src += depth_stride, dst += pitch) {
      int64_t c = 0;
      for (; c + kWidth <= columns; c += kWidth) Vec::load(src + c).store(dst + c);
      if (c < columns) Vec::load_first(src + c, columns - c).store(dst + c);
    }
    return;
  }
  transpose(src, column_stride, depth, columns, dst, pitch);
  if (pitch > columns) {
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t c = columns; c < pitch; ++c) dst[k * pitch + c] = 0;
  }
}

}  // namespace weft::kernels::WEFT_ISA
