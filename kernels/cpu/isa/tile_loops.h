// The loops of the register tile, for both kinds of Product: one has broadcast(p), the element at p in each
// lane, and add(x, column, sum) = sum + x * column.
#pragma once

#include "weft/kernels/cpu/isa/tile.h"

#ifdef WEFT_CHECK_TILES
// AddressSanitizer would keep the sums of the loops below in memory to watch them, and take sixty times as
// long. The files with tiles are compiled without it, and ask once for a tile whether all that the tile reads
// and writes is there.
extern "C" {
void* __asan_region_is_poisoned(void* begin, size_t size);
void __asan_report_load_n(void* address, size_t size);
void __asan_report_store_n(void* address, size_t size);
}
#endif

namespace weft::kernels::WEFT_ISA {
namespace {

#ifdef WEFT_CHECK_TILES
void check_memory(const void* begin, int64_t bytes, bool written) {
  if (bytes <= 0) return;
  void* const bad = __asan_region_is_poisoned(const_cast<void*>(begin), size_t(bytes));
  if (bad) written ? __asan_report_store_n(bad, 1) : __asan_report_load_n(bad, 1);
}
void check_floats(const float* begin, int64_t count, bool written = false) {
  check_memory(begin, count * int64_t(sizeof(float)), written);
}
void check(const Tile& t, int rows, int width) {
  check_memory(t.src, t.taps * rows * int64_t(sizeof(float*)), false);
  for (int64_t i = 0; i < t.taps * rows; ++i) check_floats(t.src[i], t.depth);
  check_floats(t.panel, t.taps * t.depth * width);
  if (t.start == TileStart::bias) check_floats(t.bias, t.cols);
  for (int r = 0; r < rows; ++r) check_floats(t.dst[r], t.cols, true);
}
void check(const OuterTile& t, int rows, int width) {
  check_memory(t.segments, t.segment_count * int64_t(sizeof(Segment)), false);
  for (int64_t i = 0; i < t.segment_count; ++i) {
    const Segment& s = t.segments[i];
    if (s.count == 0) continue;
    check_floats(s.x + t.x_offset, (s.count - 1) * t.x_step + width);
    check_floats(s.dy + t.dy_offset, (s.count - 1) * t.dy_step + rows);
  }
  for (int r = 0; r < rows; ++r) check_floats(t.dst + r * t.dst_pitch, width, true);
}
#else
template <class T>
void check(const T&, int, int) {}
#endif

/// The sums of a tile that has missing columns: dst = start + sums, element by element.
__attribute__((noinline)) void finish_part(const Tile& t, const float* sums, int rows, int pitch) {
  for (int r = 0; r < rows; ++r, sums += pitch) {
    float* y = t.dst[r];
    for (int c = 0; c < t.cols; ++c) {
      const float start = t.start == TileStart::accumulate ? y[c]
                          : t.start == TileStart::bias     ? t.bias[c]
                                                           : 0;
      y[c] = start + sums[c];
    }
  }
}

// Depth between two rounds of prefetching: a cache line of each row.
constexpr int64_t kLine = 16;

template <class Product, int kRows, int kVecs>
void tile(const Tile& t) {
  check(t, kRows, kVecs * kWidth);
  Vec acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) acc[r][v] = Vec(0.0f);

  const float* b = t.panel;
  const float* const* src = t.src;
  const float* const* ahead = t.ahead ? t.ahead : src;
  // Spread over the whole tile: too many at once would hold up the loads of the sums.
  const int step = int(ceil_div(kRows, t.taps * ceil_div(t.depth, kLine)));
  int row = 0;
  for (int64_t tap = 0; tap < t.taps; ++tap, src += kRows, ahead += kRows) {
    const float* a[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) a[r] = src[r];
    for (int64_t k = 0; k < t.depth;) {
      // The next tile's rows and this one's destination come into the cache meanwhile, a few lines at a time.
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) __builtin_prefetch(ahead[r] + k);
      for (const int end = row + step; row < kRows && row < end; ++row)
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) __builtin_prefetch(t.dst[row] + v * kWidth, 1);
      for (const int64_t end = smaller(t.depth, k + kLine); k < end; ++k, b += kVecs * kWidth) {
        Vec column[kVecs];
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) column[v] = Vec(*reinterpret_cast<const FloatLanes*>(b + v * kWidth));
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const Vec x = Product::broadcast(a[r] + k);
#pragma GCC unroll 4
          for (int v = 0; v < kVecs; ++v) acc[r][v] = Product::add(x, column[v], acc[r][v]);
        }
      }
    }
  }

  if (t.cols < kVecs * kWidth) {
    alignas(64) float sums[kRows * kVecs * kWidth];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) acc[r][v].store(sums + (r * kVecs + v) * kWidth);
    return finish_part(t, sums, kRows, kVecs * kWidth);
  }
  if (t.start == TileStart::bias) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const Vec bias = Vec::load(t.bias + v * kWidth);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) acc[r][v] += bias;
    }
  }
  if (t.start == TileStart::accumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) acc[r][v] += Vec::load(t.dst[r] + v * kWidth);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) acc[r][v].store(t.dst[r] + v * kWidth);
}

template <class Product, int kRows, int kVecs>
void outer(const OuterTile& t) {
  check(t, kRows, kVecs * kWidth);
  Vec acc[kRows][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) acc[r][v] = Vec(0.0f);
  const int64_t x_step = t.x_step, dy_step = t.dy_step;
  const float* ahead = t.ahead;
  for (int64_t s = 0; s < t.segment_count; ++s) {
    const float* x = t.segments[s].x + t.x_offset;
    const float* dy = t.segments[s].dy + t.dy_offset;
    for (int64_t left = t.segments[s].count; left > 0;) {
      if (ahead) {
#pragma GCC unroll 4
        for (int v = 0; v < kAheadFloats; v += 16) __builtin_prefetch(ahead + v, 0, 2);
        ahead += t.ahead_step;
      }
      const int64_t count = smaller(left, kAheadPixels);
      left -= count;
      for (int64_t i = count; i > 0; --i, x += x_step, dy += dy_step) {
        Vec column[kVecs];
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) column[v] = Vec::load(x + v * kWidth);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const Vec g = Product::broadcast(dy + r);
#pragma GCC unroll 4
          for (int v = 0; v < kVecs; ++v) acc[r][v] = Product::add(g, column[v], acc[r][v]);
        }
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

/// The function of `rows` rows and `vecs` vectors, which are at most the template's.
template <class Product, int kVecs = kPanelVecs, int kRows = tile_rows(kVecs)>
TileFunction find_tile(int rows, int vecs) {
  if constexpr (kVecs > 1)
    if (vecs < kVecs) return find_tile<Product, kVecs - 1>(rows, vecs);
  if constexpr (kRows > 1)
    if (rows < kRows) return find_tile<Product, kVecs, kRows - 1>(rows, vecs);
  return tile<Product, kRows, kVecs>;
}
template <class Product, int kVecs = kPanelVecs, int kRows = kOuterRows>
OuterFunction find_outer(int rows, int vecs) {
  if constexpr (kVecs > 1)
    if (vecs < kVecs) return find_outer<Product, kVecs - 1>(rows, vecs);
  if constexpr (kRows > 1)
    if (rows < kRows) return find_outer<Product, kVecs, kRows - 1>(rows, vecs);
  return outer<Product, kRows, kVecs>;
}

}  // namespace

}  // namespace weft::kernels::WEFT_ISA
