#include "weft/kernels/cpu/isa/lattice.h"

#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Bytes of a panel that stay in the L2 cache while the pixels of a task pass over it.
constexpr int64_t kPanelBytes = 160 << 10;
// Bytes of source pixels that a task comes back to for its next panel.
constexpr int64_t kSourceBytes = 384 << 10;
constexpr int kMaxBlockTaps = 64;
// Enough tasks for this many threads.
constexpr int64_t kEnoughTasks = 64;
// A multiple of every tile height.
constexpr int64_t kChunkStep = 24;

/// Walks the destination pixels in memory order.
struct Position {
  int64_t n, i, j;
  Position(const Lattice& t, int64_t p) : n(p / (t.h.count * t.w.count)) {
    const int64_t rest = p - n * t.h.count * t.w.count;
    i = rest / t.w.count;
    j = rest - i * t.w.count;
  }
  void next(const Lattice& t) {
    if (++j < t.w.count) return;
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
void copy_patch(const Lattice& t, const float* row, int64_t x, float* patch) {
  for (int64_t k = 0; k < t.merged; ++k) {
    const bool inside = uint64_t(x + k) < uint64_t(t.w.source);
    for (int64_t c = 0; c < t.src_pitch; ++c)
      patch[k * t.src_pitch + c] = inside ? row[(x + k) * t.src_pitch + c] : 0;
  }
}

/// Destination pixels [begin, end) x one panel x one block.
void run_block(const Lattice& t, int64_t group, int64_t panel, const Block& block, int64_t begin,
               int64_t end) {
  const int64_t columns = panel_columns(t.width, panel);
  const int vecs = int(ceil_div(columns, kWidth)), rows = tile_rows(vecs);
  const bool first = block.tap == 0 && block.channel == 0;
  const float* base = t.src + group * t.depth + block.channel;
  float* dst_base = t.dst + group * t.width + panel * kPanel;

  const float* src[kMaxBlockTaps * kMaxTileRows];
  float* dst[kMaxTileRows];
  alignas(64) float patches[kMaxTileRows * kMaxMergedTaps * kMaxMerged];  // merged rows over the edge
  Tile tile;
  tile.src = src;
  tile.taps = block.taps;
  tile.depth = block.channels;
  tile.panel = t.panels + group * panels_size(t.inner(), t.width) + panel_offset(t.inner(), panel) +
               (block.tap * t.depth + block.channel) * vecs * kWidth;
  tile.dst = dst;
  tile.cols = int(columns);
  tile.bias = t.bias ? t.bias + group * t.width + panel * kPanel : nullptr;
  tile.start = !first || t.accumulate ? TileStart::accumulate : t.bias ? TileStart::bias : TileStart::zero;
  const int64_t first_a = block.tap / t.w.taps, first_b = block.tap - first_a * t.w.taps;

  const TileFunction full = tile_function(vecs, false), single = tile_function(vecs, true);
  Position at(t, begin);
  for (int64_t p = begin; p < end;) {
    tile.rows = int(smaller(rows, end - p));
    const int height = tile.rows == 1 ? 1 : rows;
    for (int r = 0; r < height; ++r) {
      if (r >= tile.rows) {
        for (int64_t tap = 0; tap < block.taps; ++tap) src[tap * height + r] = src[tap * height];
        continue;
      }
      const float* image = base + at.n * t.h.source * t.w.source * t.src_pitch;
      const int64_t y0 = at.i * t.h.step + t.h.first, x0 = at.j * t.w.step + t.w.first;
      dst[r] = dst_base + ((at.n * t.h.dst + t.h.dst_first + at.i * t.h.dst_step) * t.w.dst + t.w.dst_first +
                           at.j * t.w.dst_step) *
                              t.dst_pitch;
      int64_t a = first_a, b = first_b;
      for (int64_t tap = 0; tap < block.taps; ++tap) {
        const int64_t y = y0 + a * t.h.tap_step, x = x0 + b * t.w.tap_step;
        const float* pixel = t.zeros;
        if (uint64_t(y) < uint64_t(t.h.source)) {
          const float* row = image + y * t.w.source * t.src_pitch;
          if (x >= 0 && x + t.merged <= t.w.source) {
            pixel = row + x * t.src_pitch;
          } else if (t.merged > 1) {
            float* patch = patches + (r * block.taps + tap) * t.depth;
            copy_patch(t, row, x, patch);
            pixel = patch;
          }
        }
        src[tap * height + r] = pixel;
        if (++b == t.w.taps) b = 0, ++a;
      }
      at.next(t);
    }
    (tile.rows == 1 ? single : full)(tile);
    p += tile.rows;
  }
}

/// Inner dimension of one block: with it, a panel takes up kPanelBytes.
int64_t block_limit(const Lattice& t) {
  const int64_t pitch = round_up(smaller(t.width, kPanel), kWidth);
  return larger(64, kPanelBytes / (pitch * int64_t(sizeof(float))));
}

/// Calls f(block) for the blocks of the inner dimension, in order.
template <class F>
void each_block(const Lattice& t, F f) {
  const int64_t limit = block_limit(t), taps = t.h.taps * t.w.taps;
  if (t.depth > limit) {
    const int64_t pieces = ceil_div(t.depth, limit), piece = round_up(ceil_div(t.depth, pieces), 8);
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < t.depth; c += piece) f(Block{tap, 1, c, smaller(piece, t.depth - c)});
    return;
  }
  const int64_t most = smaller(kMaxBlockTaps, larger(1, limit / t.depth));
  const int64_t block = ceil_div(taps, ceil_div(taps, most));
  for (int64_t tap = 0; tap < taps; tap += block) f(Block{tap, smaller(block, taps - tap), 0, t.depth});
}

}  // namespace

void run_lattice(const Lattice& t) {
  const int64_t pixels = t.batch * t.h.count * t.w.count, panels = panel_count(t.width);
  // Neither the chunk nor the order of tasks touches the order of any sum.
  const int64_t pixel_bytes = smaller(t.depth, block_limit(t)) * t.h.step * t.w.step * int64_t(sizeof(float));
  int64_t chunk = round_up(smaller(960, larger(96, kSourceBytes / pixel_bytes)), kChunkStep);
  while (chunk > 96 && ceil_div(pixels, chunk) * t.groups * panels < kEnoughTasks)
    chunk = round_up(chunk / 2, kChunkStep);
  const int64_t chunks = ceil_div(pixels, chunk);
  // Panels of one task: all of them, or fewer where the chunks alone are not enough tasks.
  const int64_t parts = smaller(panels, ceil_div(kEnoughTasks, chunks * t.groups));
  parallel_for(chunks * t.groups * parts, [&](int64_t task) {
    const int64_t part = task / (chunks * t.groups), rest = task - part * chunks * t.groups;
    const int64_t group = rest / chunks, begin = (rest - group * chunks) * chunk;
    const int64_t end = smaller(pixels, begin + chunk);
    each_block(t, [&](const Block& block) {
      for (int64_t panel = part * panels / parts; panel < (part + 1) * panels / parts; ++panel)
        run_block(t, group, panel, block, begin, end);
    });
  });
}

}  // namespace weft::kernels::WEFT_ISA
