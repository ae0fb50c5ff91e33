// Where the tiles of a lattice find their rows: pointers to the source pixels under each tap, and to the
// destination.
#pragma once

#include "weft/kernels/cpu/isa/lattice.h"

namespace weft::kernels::WEFT_ISA {

constexpr int kMaxBlockTaps = 64;

/// Walks the destination pixels in memory order.
struct Position {
  int64_t n, i, j;
  Position(const Lattice& t, int64_t p) : n(p / (t.h.count * t.w.count)) {
    const int64_t rest = p - n * t.h.count * t.w.count;
    i = rest / t.w.count;
    j = rest - i * t.w.count;
  }
  /// Goes `count` pixels on, not beyond the next row's first.
  void skip(const Lattice& t, int64_t count) {
    if ((j += count) < t.w.count) return;
    j = 0;
    if (++i < t.h.count) return;
    i = 0;
    ++n;
  }
};

/// A part of the inner dimension: whole taps, or a part of the channels of one tap.
struct Block {
  int64_t tap, taps, channel, channels;
};

/// The merged row from pixel x of an image row on, with zeros for what lies outside.
WEFT_INLINE void copy_patch(const Lattice& t, const float* row, int64_t x, float* patch) {
  for (int64_t k = 0; k < t.merged; ++k) {
    const bool inside = uint64_t(x + k) < uint64_t(t.w.source);
    for (int64_t c = 0; c < t.src_pitch; ++c)
      patch[k * t.src_pitch + c] = inside ? row[(x + k) * t.src_pitch + c] : 0;
  }
}

/// The pointers of one tile.
struct Rows {
  const float* src[kMaxBlockTaps * kMaxTileRows];
  float* dst[kMaxTileRows];
  alignas(64) float patches[kMaxTileRows * kMaxMergedTaps * kMaxMerged];  // merged rows over the edge
  int count = 0;
};

/// One panel x one block of the inner dimension, tile after tile.
class Walk {
 public:
  Walk(const Lattice& t, int64_t group, int64_t panel, const Block& block, int64_t begin, int64_t end)
      : t_(t),
        block_(block),
        base_(t.src + group * t.depth + block.channel),
        dst_base_(t.dst + group * t.width + panel * kPanel),
        first_a_(block.tap / t.w.taps),
        first_b_(block.tap - first_a_ * t.w.taps),
        linear_(is_linear(t)),
        next_(begin),
        end_(end),
        at_(t, begin) {}

  /// Pointers of the next tile of `vecs` vectors; none at the end.
  void find(int vecs, Rows& rows) {
    rows.count = next_ < end_ ? next_rows(end_ - next_, tile_rows(vecs)) : 0;
    if (rows.count == 0) return;
    if (linear_)
      find_linear(rows);
    else if (!find_inner(rows))
      for (int r = 0; r < rows.count; ++r) find_row(r, rows);
    next_ += rows.count;
  }

 private:
  /// Whether source and destination pixels stand in the same order without gaps, as in a matrix product.
  static bool is_linear(const Lattice& t) {
    const auto plain = [](const Axis& a) {
      return a.taps == 1 && a.step == 1 && a.first == 0 && a.dst_step == 1 && a.dst_first == 0 &&
             a.count == a.source && a.count == a.dst;
    };
    return t.merged == 1 && plain(t.h) && plain(t.w);
  }

  void find_linear(Rows& rows) const {
    const float* src = base_ + next_ * t_.src_pitch;
    float* dst = dst_base_ + next_ * t_.dst_pitch;
    for (int r = 0; r < rows.count; ++r)
      rows.src[r] = src + r * t_.src_pitch, rows.dst[r] = dst + r * t_.dst_pitch;
  }

  const float* image() const { return base_ + at_.n * t_.h.source * t_.w.source * t_.src_pitch; }
  float* destination() const {
    return dst_base_ + ((at_.n * t_.h.dst + t_.h.dst_first + at_.i * t_.h.dst_step) * t_.w.dst +
                        t_.w.dst_first + at_.j * t_.w.dst_step) *
                           t_.dst_pitch;
  }

  /// The case that all pixels stand in one row of the image and no tap falls off its left or right edge.
  bool find_inner(Rows& rows) {
    const int64_t last = rows.count - 1, across = (t_.w.taps - 1) * t_.w.tap_step;
    const int64_t y0 = at_.i * t_.h.step + t_.h.first, x0 = at_.j * t_.w.step + t_.w.first;
    if (at_.j + last >= t_.w.count || x0 + smaller(0, across) < 0 ||
        x0 + last * t_.w.step + larger(0, across) + t_.merged > t_.w.source)
      return false;
    float* dst = destination();
    for (int r = 0; r < rows.count; ++r) rows.dst[r] = dst + r * t_.w.dst_step * t_.dst_pitch;
    const float** src = rows.src;
    int64_t a = first_a_, b = first_b_;
    for (int64_t tap = 0; tap < block_.taps; ++tap, src += rows.count) {
      const int64_t y = y0 + a * t_.h.tap_step, x = x0 + b * t_.w.tap_step;
      const bool inside = uint64_t(y) < uint64_t(t_.h.source);
      const float* pixel = inside ? image() + (y * t_.w.source + x) * t_.src_pitch : t_.zeros;
      const int64_t step = inside ? t_.w.step * t_.src_pitch : 0;
      for (int r = 0; r < rows.count; ++r) src[r] = pixel + r * step;
      if (++b == t_.w.taps) b = 0, ++a;
    }
    at_.skip(t_, rows.count);
    return true;
  }

  void find_row(int r, Rows& rows) {
    const int64_t y0 = at_.i * t_.h.step + t_.h.first, x0 = at_.j * t_.w.step + t_.w.first;
    rows.dst[r] = destination();
    int64_t a = first_a_, b = first_b_;
    for (int64_t tap = 0; tap < block_.taps; ++tap) {
      const int64_t y = y0 + a * t_.h.tap_step, x = x0 + b * t_.w.tap_step;
      const float* pixel = t_.zeros;
      if (uint64_t(y) < uint64_t(t_.h.source)) {
        const float* row = image() + y * t_.w.source * t_.src_pitch;
        if (x >= 0 && x + t_.merged <= t_.w.source) {
          pixel = row + x * t_.src_pitch;
        } else if (t_.merged > 1) {
          float* patch = rows.patches + (r * block_.taps + tap) * t_.depth;
          copy_patch(t_, row, x, patch);
          pixel = patch;
        }
      }
      rows.src[tap * rows.count + r] = pixel;
      if (++b == t_.w.taps) b = 0, ++a;
    }
    at_.skip(t_, 1);
  }

  const Lattice& t_;
  const Block& block_;
  const float* base_;
  float* dst_base_;
  const int64_t first_a_, first_b_;
  const bool linear_;
  int64_t next_;
  const int64_t end_;
  Position at_;
};

}  // namespace weft::kernels::WEFT_ISA
