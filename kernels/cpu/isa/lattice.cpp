#include "weft/kernels/cpu/isa/lattice_walk.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Bytes of a panel that stay in the L2 cache while the pixels of a task pass over it.
constexpr int64_t kPanelBytes = 160 << 10;
// Bytes of source pixels that a task comes back to for its next panel.
constexpr int64_t kSourceBytes = 384 << 10;
// Bytes of panels that stay in the L2 cache all together, and pixels that pass over them at a time.
constexpr int64_t kStayBytes = 512 << 10, kStrip = 96;
// Enough tasks for this many threads.
constexpr int64_t kEnoughTasks = 64;
// A multiple of every tile height.
constexpr int64_t kChunkStep = 24;

/// Destination pixels [begin, end) x one panel x one block.
void run_block(const Lattice& t, int64_t group, int64_t panel, const Block& block, int64_t begin,
               int64_t end) {
  const int64_t columns = panel_columns(t.width, panel);
  const int vecs = int(ceil_div(columns, kWidth));
  const bool first = block.tap == 0 && block.channel == 0;
  Tile tile;
  tile.taps = block.taps;
  tile.depth = block.channels;
  tile.panel = t.panels + group * panels_size(t.inner(), t.width) + panel_offset(t.inner(), panel) +
               (block.tap * t.depth + block.channel) * vecs * kWidth;
  tile.cols = int(columns);
  tile.bias = t.bias ? t.bias + group * t.width + panel * kPanel : nullptr;
  tile.start = !first || t.accumulate ? TileStart::accumulate : t.bias ? TileStart::bias : TileStart::zero;

  Walk walk(t, group, panel, block, begin, end);
  // The pointers are found one tile ahead, so that the tile can ask for the next one's rows.
  Rows rows[2];
  walk.find(vecs, rows[0]);
  for (int i = 0; rows[i].count > 0; i ^= 1) {
    walk.find(vecs, rows[i ^ 1]);
    tile.src = rows[i].src;
    tile.dst = rows[i].dst;
    tile.ahead = rows[i ^ 1].count == rows[i].count ? rows[i ^ 1].src : nullptr;
    tile_function(rows[i].count, vecs, t.pairs)(tile);
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

/// A lattice of `count` pixels of t from pixel p on, whose source, still of floats, becomes pairs in `strip`.
Lattice strip_of(const Lattice& t, int64_t p, int64_t count, float* strip) {
  Lattice s = t;
  if constexpr (kPairs) {
    pair_rows(t.src + p * t.src_pitch, t.src_pitch, count, t.plain_depth, strip, t.depth);
    s.src = strip;
    s.src_pitch = t.depth;
    s.dst = t.dst + p * t.dst_pitch;
  }
  return s;
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
  EpiloguePieces pieces(t.epilogue, chunks, pixels, t.groups * t.width, t.dst);
  parallel_for(chunks * t.groups * parts, [&](int64_t task) {
    const int64_t part = task / (chunks * t.groups), rest = task - part * chunks * t.groups;
    const int64_t group = rest / chunks, begin = (rest - group * chunks) * chunk;
    const int64_t end = smaller(pixels, begin + chunk);
    const int64_t first = part * panels / parts, last = (part + 1) * panels / parts;
    const int64_t panel_bytes = panels_size(t.inner(), smaller(t.width, kPanel)) * int64_t(sizeof(float));
    // Panels that all stay in the L2 cache pass over a few pixels at a time, so that these are read and
    // written once; otherwise each panel stays there while all pixels of the task pass.
    const int64_t strip = panel_bytes * (last - first) <= kStayBytes ? kStrip : end - begin;
    const int64_t channel = group * t.width + first * kPanel;
    const int64_t columns = smaller(t.width, last * kPanel) - first * kPanel;
    const Scratch pairs(t.plain_depth > 0 ? smaller(strip, end - begin) * t.depth : 0);
    for (int64_t p = begin; p < end; p += strip) {
      const int64_t strip_end = smaller(end, p + strip);
      const bool plain = t.plain_depth > 0;
      Lattice s = plain ? strip_of(t, p, strip_end - p, pairs.get()) : t;
      const int64_t origin = plain ? p : 0;  // pixel 0 of s is this one of t
      each_block(t, [&](const Block& block) {
        for (int64_t panel = first; panel < last; ++panel)
          run_block(s, group, panel, block, (t.lower ? larger(p, panel * kPanel) : p) - origin,
                    strip_end - origin);
      });
      pieces.add(begin / chunk, p, strip_end - p, channel, columns);
    }
  });
  pieces.finish();
}

}  // namespace weft::kernels::WEFT_ISA
