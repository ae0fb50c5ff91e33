#include "weft/kernels/cpu/isa/tile.h"

namespace weft::kernels::WEFT_ISA {
namespace {

template <int kRows, int kVecs>
void tile(const Tile& t) {
  Vec acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) acc[r][v] = Vec(0.0f);

  // Ask for the destination's cache lines now, so that they are there when the sums are done.
  for (int r = 0; r < t.rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) __builtin_prefetch(t.dst[r] + v * kWidth, 1);

  const float* b = t.panel;
  const float* const* src = t.src;
  for (int64_t tap = 0; tap < t.taps; ++tap, src += kRows) {
    const float* a[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) a[r] = src[r];
    for (int64_t k = 0; k < t.depth; ++k, b += kVecs * kWidth) {
      Vec column[kVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) column[v] = Vec(*reinterpret_cast<const FloatLanes*>(b + v * kWidth));
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const Vec x(a[r][k]);
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) acc[r][v] = fma(x, column[v], acc[r][v]);
      }
    }
  }

  const bool whole = t.cols == kVecs * kWidth;
  const int64_t last = t.cols - (kVecs - 1) * kWidth;
  if (t.start == TileStart::bias) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const float* p = t.bias + v * kWidth;
      const Vec bias = whole || v < kVecs - 1 ? Vec::load(p) : Vec::load_first(p, last);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) acc[r][v] += bias;
    }
  }
  const bool accumulate = t.start == TileStart::accumulate;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    if (r >= t.rows) break;
    float* y = t.dst[r];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      float* p = y + v * kWidth;
      if (whole || v < kVecs - 1) {
        if (accumulate) acc[r][v] += Vec::load(p);
        acc[r][v].store(p);
      } else {
        if (accumulate) acc[r][v] += Vec::load_first(p, last);
        acc[r][v].store_first(p, last);
      }
    }
  }
}

template <int kRows, int kVecs>
void outer(const OuterTile& t) {
  Vec acc[kRows][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) acc[r][v] = Vec(0.0f);
  const int64_t x_step = t.x_step, dy_step = t.dy_step;
  for (int64_t s = 0; s < t.segment_count; ++s) {
    const float* x = t.segments[s].x + t.x_offset;
    const float* dy = t.segments[s].dy + t.dy_offset;
    for (int64_t i = t.segments[s].count; i > 0; --i, x += x_step, dy += dy_step) {
      Vec column[kVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) column[v] = Vec::load(x + v * kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Vec g(dy[r]);
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) acc[r][v] = fma(g, column[v], acc[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* y = t.dst + r * t.dst_pitch;
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      if (t.accumulate) acc[r][v] += Vec::load(y + v * kWidth);
      acc[r][v].store(y + v * kWidth);
    }
  }
}

template <int kVecs>
constexpr OuterFunction kOuter[kOuterRows] = {outer<1, kVecs>, outer<2, kVecs>, outer<3, kVecs>,
                                              outer<4, kVecs>, outer<5, kVecs>, outer<6, kVecs>};

}  // namespace

TileFunction tile_function(int vecs, bool single) {
  switch (vecs) {
    case 1:
      return single ? tile<1, 1> : tile<tile_rows(1), 1>;
    case 2:
      return single ? tile<1, 2> : tile<tile_rows(2), 2>;
#if defined(WEFT_ISA_avx512) || defined(WEFT_ISA_neon)
    case 3:
      return single ? tile<1, 3> : tile<tile_rows(3), 3>;
    case 4:
      return single ? tile<1, 4> : tile<tile_rows(4), 4>;
#endif
    default:
      return nullptr;
  }
}

OuterFunction outer_function(int rows, int vecs) {
  switch (vecs) {
    case 1:
      return kOuter<1>[rows - 1];
    case 2:
      return kOuter<2>[rows - 1];
#if defined(WEFT_ISA_avx512) || defined(WEFT_ISA_neon)
    case 3:
      return kOuter<3>[rows - 1];
    case 4:
      return kOuter<4>[rows - 1];
#endif
    default:
      return nullptr;
  }
}

}  // namespace weft::kernels::WEFT_ISA
