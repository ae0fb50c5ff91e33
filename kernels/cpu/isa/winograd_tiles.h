// Tiles of images and their Winograd transforms, as the passes of the convolution share them.
#pragma once

#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/winograd.h"

namespace weft::kernels::WEFT_ISA {

// A multiple of the heights of the register tile; floats of transformed tiles that a task keeps in the L2
// cache, the most tiles of a task, and the tiles that one task transforms where that is a stage of its own.
constexpr int64_t kChunkStep = 24, kChunkFloats = 168 << 10, kMostChunk = 96, kTilesPerTask = 4;

/// An image that tiles are read from or written to. Tile (i, j) starts at pixel (i * step - pad_h, j * step -
/// pad_w).
struct Plane {
  int64_t height, width, channels, step, pad_h, pad_w;
};

/// The tiles of a batch, and the pitch from tile to tile of its transform, which keeps rows out of each
/// other's cache sets.
struct Grid {
  int64_t h, w, tiles;
  template <int M>
  static Grid of(int64_t batch, int64_t out_h, int64_t out_w) {
    const int64_t h = ceil_div(out_h, M), w = ceil_div(out_w, M);
    return {h, w, batch * h * w};
  }
};
WEFT_INLINE int64_t padded(int64_t channels) {
  const int64_t pitch = round_up(channels, larger(16, kWidth));
  return pitch % 256 == 0 ? pitch + 16 : pitch;
}

/// Calls body(channel, access) for the vectors of the channels.
template <class F>
WEFT_INLINE void each_channel(int64_t channels, F body) {
  int64_t c = 0;
  for (; c + kWidth <= channels; c += kWidth)
    body(
        c, [](const float* p) { return Vec::load(p); }, [](Vec v, float* p) { v.store(p); });
  if (const int64_t left = channels - c; left > 0)
    body(
        c, [left](const float* p) { return Vec::load_first(p, left); },
        [left](Vec v, float* p) { v.store_first(p, left); });
}

/// Where transformed tiles lie: [block of channels][position][tile][channel of the block].
struct Layout {
  int64_t position_step, pitch;  // from position to position, from tile to tile
  int64_t block, block_step;     // channels of a block, from block to block
};

/// Writes the transforms of tiles [first, last) of `src` from `to` on, channels up to the next whole vector
/// as zeros. What lies outside of the image is zero; `zeros` holds one pixel of it.
template <int kFrom, int kTo, class Transform>
void transform_tiles(const Plane& image, const Grid& grid, const float* src, const float* zeros,
                     int64_t first, int64_t last, float* to, const Layout& layout, Transform transform) {
  const int64_t per_image = grid.h * grid.w, position_step = layout.position_step;
  for (int64_t t = first; t < last; ++t, to += layout.pitch) {
    const int64_t n = t / per_image, i = (t - n * per_image) / grid.w, j = t % grid.w;
    const int64_t y0 = i * image.step - image.pad_h, x0 = j * image.step - image.pad_w;
    const float* pixel[kFrom][kFrom];
    for (int r = 0; r < kFrom; ++r) {
      const bool row = uint64_t(y0 + r) < uint64_t(image.height);
      const int64_t at = ((n * image.height + y0 + r) * image.width + x0) * image.channels;
      for (int s = 0; s < kFrom; ++s)
        pixel[r][s] = row && uint64_t(x0 + s) < uint64_t(image.width) ? src + at + s * image.channels : zeros;
    }
    float* block = to;
    for (int64_t c0 = 0; c0 < image.channels; c0 += layout.block, block += layout.block_step)
      each_channel(smaller(layout.block, image.channels - c0), [&](int64_t c, auto load, auto) {
      // The pixels that the tile to the right adds; those above it were there one row of tiles ago.
#pragma GCC unroll 6
        for (int r = 2; r < kFrom; ++r)
#pragma GCC unroll 6
          for (int s = 2; s < kFrom; ++s)
            __builtin_prefetch(pixel[r][s] + image.step * image.channels + c0 + c);
        transform_2d<kFrom, kTo>(
            [&](int r, int s) { return load(pixel[r][s] + c0 + c); }, transform,
            [&](int r, int s, Vec v) { v.store(block + (r * kTo + s) * position_step + c); });
      });
  }
}

/// The weight gradient of F(M x M, 3 x 3); conv2d_winograd_weight.cpp has it for M = 2, 3 and 4.
template <int M>
int64_t winograd_weight_floats(const Conv2dParams& p);
template <int M>
void winograd_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                              float* workspace);

}  // namespace weft::kernels::WEFT_ISA
