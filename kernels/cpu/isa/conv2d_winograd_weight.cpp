// The weight gradient by Winograd, G^T [sum over the tiles of (B^T x B) * (A dy A^T)] G: one outer product of
// channels for each position of the tile. Few tiles: they are all transformed first, then each task sums over
// all of them for some channels. Many: parts of the tiles are summed apart, chunk by chunk.
#include "weft/kernels/cpu/isa/conv2d_weight.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/winograd_tiles.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Transformed tiles up to which they are all kept, and the most channels of a task's sums then;
// else chunks are summed apart, in parts that are enough where their sums stay in the cache, and the most
// floats of all sums.
constexpr int64_t kStagedFloats = int64_t{6} << 20, kStagedIn = 64, kStagedOut = 48;
constexpr int64_t kLeastChunk = 24, kEnoughParts = 4, kMostParts = 8, kPartFloats = int64_t{6} << 20;

template <class W>
struct WeightProduct {
  static constexpr int kPositions = W::kProducts * W::kProducts, kFilters = W::kFilters * W::kFilters;
  int64_t in_c, out_c;
  Plane x, dy;
  Grid grid;
  bool staged;
  int64_t chunk, parts, oc_block, ic_block;  // tiles of a task; channels of its sums
  Layout vx, vdy;

  explicit WeightProduct(const Conv2dParams& p) : in_c(p.in_c), out_c(p.out_c) {
    const int64_t oh = out_h(p), ow = out_w(p);
    x = {p.in_h, p.in_w, p.in_c, p.pad_h, p.pad_w};
    dy = {oh, ow, p.out_c, 0, 0};
    grid = Grid::of(W::kOut, p.batch, oh, ow);
    ic_block = padded(in_c);
    oc_block = padded(out_c);
    const int64_t tile = kPositions * (ic_block + oc_block);
    // Where the sums do not fit into the L2 cache, a chunk is large enough to be worth their way there and
    // back.
    const bool sums_stay = sums() <= kChunkFloats;
    const int64_t fit = (sums_stay ? kChunkFloats : 2 * sums()) / tile / 8 * 8;
    chunk = larger(kLeastChunk, smaller(kMostChunk, fit));
    parts = kMostParts;
    while (parts > 1 && (parts * chunk > grid.tiles || parts * sums() > kPartFloats)) parts /= 2;
    staged = sums_stay ? parts < kEnoughParts : grid.tiles * tile <= kStagedFloats;
    if (staged) {
      chunk = grid.tiles;
      parts = 1;
      ic_block = smaller(ic_block, kStagedIn);
      int64_t blocks = ceil_div(out_c, kStagedOut);
      blocks += blocks * ceil_div(in_c, ic_block) % 2;  // an even number of tasks
      oc_block = round_up(ceil_div(out_c, blocks), 16);
    }
    const auto layout = [&](int64_t block) {
      const int64_t step = chunk * block + 16;
      return Layout{step, block, block, kPositions * step};
    };
    vx = layout(ic_block);
    vdy = layout(oc_block);
  }
  int64_t sum_step() const { return oc_block * ic_block + 16; }
  int64_t sums() const { return kFilters * sum_step(); }
  int64_t x_floats() const { return ceil_div(in_c, ic_block) * vx.block_step; }
  int64_t tile_floats() const { return x_floats() + ceil_div(out_c, oc_block) * vdy.block_step; }
  int64_t zero_floats() const { return round_up(larger(in_c, out_c), 16); }
  int64_t workspace() const { return zero_floats() + (staged ? tile_floats() : parts * sums()); }
};

/// sums[filter][oc][ic] (+)= sum over the filter's products and the tiles of y[product][tile][oc] *
/// v[product][tile][ic], oc < rows, ic < columns (whole vectors).
template <class W>
void multiply_outer(const WeightProduct<W>& g, const float* v, const float* y, int filter, int64_t tiles,
                    int64_t rows, int64_t columns, bool accumulate, float* sums) {
  Segment segments[WeightProduct<W>::kPositions];
  OuterTile t;
  t.segments = segments;
  t.segment_count = 0;
  for (int i = 0; i < g.kPositions; ++i)
    if (filter_of<W>(i) == filter)
      segments[t.segment_count++] = {v + i * g.vx.position_step, y + i * g.vdy.position_step, tiles};
  t.x_offset = t.dy_offset = 0;
  t.x_step = g.vx.pitch;
  t.dy_step = g.vdy.pitch;
  t.dst_pitch = g.ic_block;
  t.accumulate = accumulate;
  Ahead none;
  outer_products(t, rows, columns, sums + filter * g.sum_step(), none);
}

/// dw of output channel oc and `columns` input channels from ic on = G^T (sum of the parts, in their order)
/// G.
template <class W>
void restore_filter(const WeightProduct<W>& g, const float* sums, int64_t oc, int64_t ic, int64_t columns,
                    float* dw) {
  each_channel(columns, [&](int64_t c, auto, auto store) {
    transform_2d<W::kFilters, 3>(
        [&](int r, int s) {
          const float* from = sums + (r * W::kFilters + s) * g.sum_step() + c;
          Vec sum = Vec::load(from);
          for (int64_t part = 1; part < g.parts; ++part) sum += Vec::load(from + part * g.sums());
          return sum;
        },
        typename W::FilterGradient{},
        [&](int r, int s, Vec v) { store(v, dw + (oc * 9 + r * 3 + s) * g.in_c + ic + c); });
  });
}

}  // namespace

template <class W>
int64_t winograd_weight_floats(const Conv2dParams& p) {
  return WeightProduct<W>(p).workspace();
}

template <class W>
void winograd_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                              float* workspace) {
  const WeightProduct<W> g(p);
  float *zeros = workspace, *rest = zeros + g.zero_floats();
  for (int64_t c = 0; c < g.zero_floats(); ++c) zeros[c] = 0;
  const int64_t tiles = g.grid.tiles;
  const auto transform = [&](int64_t first, int64_t last, float* v, float* y) {
    transform_tiles<W::kIn, W::kProducts, W::kStep>(g.x, g.grid, x, zeros, first, last, v, g.vx,
                                                    typename W::Input{});
    transform_tiles<W::kOut, W::kProducts, W::kOut>(g.dy, g.grid, dy, zeros, first, last, y, g.vdy,
                                                    typename W::OutputGradient{});
  };
  if (g.staged) {
    float *v = rest, *y = v + g.x_floats();
    parallel_ranges(tiles, kTilesPerTask, [&](int64_t first, int64_t last) {
      transform(first, last, v + first * g.vx.pitch, y + first * g.vdy.pitch);
    });
    const int64_t blocks = ceil_div(g.in_c, g.ic_block);
    parallel_for(ceil_div(g.out_c, g.oc_block) * blocks, [&](int64_t task) {
      const int64_t oc = task / blocks, ic = task - oc * blocks;
      const int64_t rows = smaller(g.oc_block, g.out_c - oc * g.oc_block);
      const int64_t columns = smaller(g.ic_block, g.in_c - ic * g.ic_block);
      const Scratch sums(g.sums());
      for (int filter = 0; filter < g.kFilters; ++filter)
        multiply_outer(g, v + ic * g.vx.block_step, y + oc * g.vdy.block_step, filter, tiles, rows,
                       round_up(columns, kWidth), false, sums.get());
      for (int64_t r = 0; r < rows; ++r)
        restore_filter(g, sums.get() + r * g.ic_block, oc * g.oc_block + r, ic * g.ic_block, columns, dw);
    });
    return;
  }
  parallel_for(g.parts, [&](int64_t part) {
    const Scratch scratch(g.tile_floats());
    float *v = scratch.get(), *y = v + g.x_floats();
    const int64_t begin = part * tiles / g.parts, end = (part + 1) * tiles / g.parts;
    for (int64_t first = begin; first < end; first += g.chunk) {
      const int64_t last = smaller(end, first + g.chunk);
      transform(first, last, v, y);
      for (int filter = 0; filter < g.kFilters; ++filter)
        multiply_outer(g, v, y, filter, last - first, g.out_c, round_up(g.in_c, kWidth), first > begin,
                       rest + part * g.sums());
    }
  });
  parallel_for(g.out_c, [&](int64_t oc) { restore_filter(g, rest + oc * g.ic_block, oc, 0, g.in_c, dw); });
}

#define WEFT_INSTANTIATE(W)                                        \
  template int64_t winograd_weight_floats<W>(const Conv2dParams&); \
  template void winograd_backward_weight<W>(const Conv2dParams&, const float*, const float*, float*, float*)
WEFT_INSTANTIATE(Winograd<2>);
WEFT_INSTANTIATE(Winograd<3>);
WEFT_INSTANTIATE(Winograd<4>);
WEFT_INSTANTIATE(TwoPixels);
WEFT_INSTANTIATE(StridedWinograd);

}  // namespace weft::kernels::WEFT_ISA
