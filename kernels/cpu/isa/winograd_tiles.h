// Tiles of images and their Winograd transforms, as the passes of the convolution share them.
#pragma once

#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/winograd.h"

namespace weft::kernels::WEFT_ISA {

// Floats of transformed tiles that a task keeps in the L2 cache, the most tiles of a task, and the tiles that
// one task transforms where that is a stage of its own.
constexpr int64_t kChunkFloats = 168 << 10, kMostChunk = 96, kTilesPerTask = 4;

/// An image that tiles are read from or written to. Tile (i, j) starts at pixel (i * step - pad_h, j * step -
/// pad_w) with the step of the algorithm.
struct Plane {
  int64_t height, width, channels, pad_h, pad_w;
};

/// The tiles of a batch, and the pitch from tile to tile of its transform, which keeps rows out of each
/// other's cache sets.
struct Grid {
  int64_t h, w, tiles;
  static Grid of(int64_t tile, int64_t batch, int64_t out_h, int64_t out_w) {
    const int64_t h = ceil_div(out_h, tile), w = ceil_div(out_w, tile);
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
template <int kFrom, int kTo, int kStep, class Transform>
void transform_tiles(const Plane& image, const Grid& grid, const float* src, const float* zeros,
                     int64_t first, int64_t last, float* to, const Layout& layout, Transform transform) {
  const int64_t per_image = grid.h * grid.w, position_step = layout.position_step;
  for (int64_t t = first; t < last; ++t, to += layout.pitch) {
    const int64_t n = t / per_image, i = (t - n * per_image) / grid.w, j = t % grid.w;
    const int64_t y0 = i * kStep - image.pad_h, x0 = j * kStep - image.pad_w;
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
#pragma GCC unroll 9
        for (int r = kFrom - kStep; r < kFrom; ++r)
#pragma GCC unroll 9
          for (int s = kFrom - kStep; s < kFrom; ++s)
            __builtin_prefetch(pixel[r][s] + kStep * image.channels + c0 + c);
        transform_2d<kFrom, kTo>(
            [&](int r, int s) { return load(pixel[r][s] + c0 + c); }, transform,
            [&](int r, int s, Vec v) { v.store(block + (r * kTo + s) * position_step + c); });
      });
  }
}

/// Which of W's transformed filters product `i` of a tile takes.
template <class W>
constexpr int filter_of(int i) {
  const int row = i / W::kProducts, column = i % W::kProducts, last = W::kFilters - 1;
  return (row < last ? row : last) * W::kFilters + (column < last ? column : last);
}

/// The weight gradient; conv2d_winograd_weight.cpp has it for all that winograd.h has.
template <class W>
int64_t winograd_weight_floats(const Conv2dParams& p);
template <class W>
void winograd_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                              float* workspace);

}  // namespace weft::kernels::WEFT_ISA
