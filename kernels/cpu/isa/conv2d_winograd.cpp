// Convolution 3x3 with stride 1 by Winograd's F(M x M, 3 x 3): each output tile of M x M pixels comes from an
// input tile of (M + 2)^2 pixels, whose transform is multiplied, position by position of the tile, with the
// transform of the filters. So the work is (M + 2)^2 matrix products [tiles, in_c] x [in_c, out_c]: for M = 4
// a quarter of the multiplications of the direct sum, for M = 3 25 of 81, for M = 2 four ninths. With stride
// 2 a tile of 4 x 4 pixels comes from 9 x 9, by 81 products in place of 144; an image of 2 x 2 takes 9. The
// input gradient is the same with the filters turned round and their channels exchanged; the weight gradient
// is in conv2d_winograd_weight.cpp.
//
// Many tiles: a task transforms, multiplies and transforms back a chunk of tiles that fits into the L2 cache.
// Few tiles (and then many channels): the transforms come first, and the filters stay in the cache instead.
#include "weft/kernels/cpu/isa/conv2d_axes.h"
#include "weft/kernels/cpu/isa/panels.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/winograd_tiles.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// The least tiles of a chunk, and what these are a multiple of where rows of tiles allow it. With fewer
// chunks, or fewer tiles for so many floats of transformed filters, which each chunk reads, the tiles are
// transformed in a stage of its own, and then so many tiles and channels of the filters are multiplied at a
// time.
constexpr int64_t kLeastChunk = 12, kRowStep = 6, kEnoughChunks = 4, kFiltersPerTile = 24 << 10;
constexpr int64_t kStagedChunk = 48, kFilterRows = 32;

int64_t least_common_multiple(int64_t a, int64_t b) { return a / greatest_common_divisor(a, b) * b; }

/// Turns products from[position][tile - first][pitch] back into tiles [first, last) of `dst`, with the bias
/// added.
template <class W>
void restore_tiles(const Plane& image, const Grid& grid, const float* from, int64_t position_step,
                   int64_t pitch, const float* bias, int64_t channel, int64_t channels, int64_t first,
                   int64_t last, float* dst) {
  const int64_t per_image = grid.h * grid.w;
  for (int64_t t = first; t < last; ++t, from += pitch) {
    const int64_t n = t / per_image, i = (t - n * per_image) / grid.w, j = t % grid.w;
    const int64_t rows = smaller(W::kOut, image.height - i * W::kOut),
                  columns = smaller(W::kOut, image.width - j * W::kOut);
    float* out =
        dst + ((n * image.height + i * W::kOut) * image.width + j * W::kOut) * image.channels + channel;
    const int64_t row_step = image.width * image.channels;
    each_channel(channels, [&](int64_t c, auto load, auto store) {
      const Vec b = bias ? load(bias + channel + c) : Vec(0.0f);
      transform_2d<W::kProducts, W::kOut>(
          [&](int r, int s) { return Vec::load(from + (r * W::kProducts + s) * position_step + c); },
          typename W::Output{},
          [&](int r, int s, Vec v) {
            if (r < rows && s < columns) store(v + b, out + r * row_step + s * image.channels + c);
          });
    });
  }
}

/// m[0..rows)[0..columns) (+)= v[0..rows)[0..depth) x u, one panel [depth, columns].
void multiply(const float* v, int64_t rows, int64_t depth, int64_t pitch_v, const float* u, int64_t columns,
              bool accumulate, float* m, int64_t pitch_m) {
  const int vecs = int(ceil_div(columns, kWidth));
  const float* src[kMaxTileRows];
  float* dst[kMaxTileRows];
  Tile tile;
  tile.src = src;
  tile.dst = dst;
  tile.taps = 1;
  tile.depth = depth;
  tile.panel = u;
  tile.cols = vecs * kWidth;
  tile.start = accumulate ? TileStart::accumulate : TileStart::zero;
  tile.bias = nullptr;
  while (rows > 0) {
    const int count = next_rows(rows, tile_rows(vecs));
    for (int r = 0; r < count; ++r, v += pitch_v, m += pitch_m) src[r] = v, dst[r] = m;
    tile_function(count, vecs, false)(tile);
    rows -= count;
  }
}

/// A forward convolution or, with x standing for dy, an input gradient.
template <class W>
struct Product {
  static constexpr int kPositions = W::kProducts * W::kProducts, kFilters = W::kFilters * W::kFilters;
  ConvPass pass;
  int64_t depth, width;  // channels of the source and of the destination
  int64_t weight_in;     // in_c of the weights, whichever way they are used
  Plane source, target;
  Grid grid;
  bool staged;
  int64_t pitch_m, chunk;  // chunk: tiles of a task
  Layout v;                // of the transformed source

  Product(const Conv2dParams& p, ConvPass conv_pass) : pass(conv_pass), weight_in(p.in_c) {
    const bool forward = pass == ConvPass::forward;
    const int64_t oh = out_h(p), ow = out_w(p);
    depth = forward ? p.in_c : p.out_c;
    width = forward ? p.out_c : p.in_c;
    const Plane x = {p.in_h, p.in_w, p.in_c, p.pad_h, p.pad_w};
    const Plane y = {oh, ow, p.out_c, (2 - p.pad_h) / p.stride_h, (2 - p.pad_w) / p.stride_w};
    source = forward ? x : y;
    target = forward ? y : x;
    grid = Grid::of(W::kOut, p.batch, target.height, target.width);
    const int64_t pitch_v = padded(depth);
    pitch_m = padded(width);
    // Whole rows of tiles and whole register tiles, where that is not too much.
    const int64_t fit = kChunkFloats / (kPositions * (pitch_v + pitch_m));
    const int64_t step = least_common_multiple(grid.w, kRowStep) <= kMostChunk
                             ? least_common_multiple(grid.w, kRowStep)
                             : kLeastChunk;
    chunk = larger(1, smaller(kMostChunk, larger(fit, kLeastChunk)) / step) * step;
    staged = grid.tiles < larger(kEnoughChunks * chunk, kFilters * depth * width / kFiltersPerTile);
    if (staged) {
      pitch_m = kPanel;
      chunk = larger(1, smaller(grid.tiles, kStagedChunk));
    }
    v.block = staged ? kFilterRows : pitch_v;
    v.pitch = v.block;
    v.position_step = (staged ? grid.tiles : chunk) * v.pitch + 16;
    v.block_step = kPositions * v.position_step;
  }
  // An odd number of cache lines between positions, so that they do not share cache sets.
  int64_t step_m() const { return chunk * pitch_m + 16; }
  int64_t step_u() const { return (staged ? kFilterRows * kPanel : panels_size(depth, width)) + 16; }
  int64_t u_floats() const { return round_up(kFilters * step_u(), 16); }
  int64_t v_floats() const { return ceil_div(depth, v.block) * v.block_step; }
  int64_t m_floats() const { return kPositions * step_m(); }
  int64_t zero_floats() const { return round_up(depth, 16); }
  int64_t workspace() const { return zero_floats() + (staged ? v_floats() : u_floats()); }
};

/// The transforms of rows [k0, k0 + rows) of one panel of the filters: to[position][row][columns of the
/// panel].
template <class W>
void transform_filters(const Product<W>& g, const float* w, int64_t panel, int64_t k0, int64_t rows,
                       float* to, int64_t position_step) {
  constexpr int64_t kTaps = 9, kTurned = 16;
  const int64_t columns = panel_columns(g.width, panel), column = panel * kPanel,
                pitch = round_up(columns, kWidth);
  // Row k of vector c, whose tap i is at taps + i * step.
  const auto transform = [&](int64_t k, int64_t c, auto load, const float* taps, int64_t step) {
    float* const row = to + k * pitch + c;
    transform_2d<3, W::kFilters>(
        [&](int r, int s) { return load(taps + (r * 3 + s) * step); }, typename W::Filter{},
        [&](int r, int s, Vec v) { v.store(row + (r * W::kFilters + s) * position_step); });
  };
  if (g.pass == ConvPass::backward_input) {  // the filter turned round, its channels as they are
    for (int64_t k = 0; k < rows; ++k) {
      const float* last = w + ((k0 + k) * kTaps + kTaps - 1) * g.weight_in + column;
      each_channel(columns,
                   [&](int64_t c, auto load, auto) { transform(k, c, load, last + c, -g.weight_in); });
    }
    return;
  }
  // From [out_c][tap][in_c], a few rows at a time that stay in the L1 cache.
  alignas(64) float turned[kTaps * kTurned * kWidth];
  for (int64_t k1 = 0; k1 < rows; k1 += kTurned)
    each_channel(columns, [&](int64_t c, auto load, auto) {
      const int64_t few = smaller(kTurned, rows - k1);
      for (int64_t tap = 0; tap < kTaps; ++tap)
        transpose(w + ((column + c) * kTaps + tap) * g.weight_in + k0 + k1, kTaps * g.weight_in, few,
                  smaller(kWidth, columns - c), turned + tap * kTurned * kWidth, kWidth);
      for (int64_t k = 0; k < few; ++k) transform(k1 + k, c, load, turned + k * kWidth, kTurned * kWidth);
    });
}

/// Asks for the share `part` of kPositions of the filters that transform_filters(g, w, panel, k0, ...) will
/// read. Inlined always: GCC takes a function that only prefetches for one without effect, and drops the
/// calls.
template <class W>
WEFT_INLINE void prefetch_filters(const Product<W>& g, const float* w, int64_t panel, int64_t k0,
                                  int64_t part) {
  constexpr int64_t kLine = 16;
  const bool forward = g.pass == ConvPass::forward;
  const int64_t rows = smaller(kFilterRows, g.depth - k0), columns = panel_columns(g.width, panel);
  const int64_t first = forward ? panel * kPanel : k0, side = forward ? k0 : panel * kPanel;
  const int64_t count = 9 * (forward ? columns : rows), length = forward ? rows : columns;
  for (int64_t i = part * count / g.kPositions; i < (part + 1) * count / g.kPositions; ++i)
    for (int64_t c = 0; c < length; c += kLine)
      __builtin_prefetch(w + (first * 9 + i) * g.weight_in + side + c, 0, 2);
}

/// The pixels of tiles [first, last), which are whole rows of tiles: the first one, and how many.
template <class W>
struct Pixels {
  int64_t first, count;

  Pixels(const Product<W>& g, int64_t first_tile, int64_t last_tile) {
    const auto row_of = [&](int64_t tile) {  // of pixels, over all images
      const int64_t row = tile / g.grid.w, image = row / g.grid.h;
      return image * g.target.height + smaller(g.target.height, (row - image * g.grid.h) * W::kOut);
    };
    first = row_of(first_tile) * g.target.width;
    count = row_of(last_tile) * g.target.width - first;
  }
};

/// Chunk by chunk: all filters are transformed first.
template <class W>
void run_chunks(const Product<W>& g, const float* src, const float* w, const float* bias, float* dst,
                const Epilogue& epilogue, const float* zeros, float* u) {
  const int64_t panels = panel_count(g.width), blocks = ceil_div(g.depth, kFilterRows);
  parallel_for(panels * blocks, [&](int64_t task) {
    const int64_t panel = task / blocks, k = (task - panel * blocks) * kFilterRows;
    transform_filters(g, w, panel, k, smaller(kFilterRows, g.depth - k),
                      u + panel_offset(g.depth, panel) + k * round_up(panel_columns(g.width, panel), kWidth),
                      g.step_u());
  });
  const bool whole_rows = g.chunk % g.grid.w == 0;
  EpiloguePieces pieces(epilogue, whole_rows ? ceil_div(g.grid.tiles, g.chunk) : 0,
                        Pixels<W>(g, 0, g.grid.tiles).count, g.width, dst);
  parallel_ranges(g.grid.tiles, g.chunk, [&](int64_t first, int64_t last) {
    const Scratch scratch(g.v_floats() + g.m_floats());
    float *v = scratch.get(), *m = v + g.v_floats();
    transform_tiles<W::kIn, W::kProducts, W::kStep>(g.source, g.grid, src, zeros, first, last, v, g.v,
                                                    typename W::Input{});
    for (int64_t i = 0; i < g.kPositions; ++i)
      for (int64_t panel = 0; panel < panels; ++panel)
        multiply(v + i * g.v.position_step, last - first, g.depth, g.v.pitch,
                 u + filter_of<W>(i) * g.step_u() + panel_offset(g.depth, panel),
                 panel_columns(g.width, panel), false, m + i * g.step_m() + panel * kPanel, g.pitch_m);
    restore_tiles<W>(g.target, g.grid, m, g.step_m(), g.pitch_m, bias, 0, g.width, first, last, dst);
    const Pixels<W> pixels(g, first, last);
    pieces.add(first / g.chunk, pixels.first, pixels.count, 0, g.width);
  });
  pieces.finish();
}

/// Few tiles: they are transformed first; then each task does one panel of filters for a chunk of them, and
/// the transformed filters, which are larger than the cache, never leave it.
template <class W>
void run_staged(const Product<W>& g, const float* src, const float* w, const float* bias, float* dst,
                const Epilogue& epilogue, const float* zeros, float* v) {
  const int64_t tiles = g.grid.tiles, panels = panel_count(g.width);
  parallel_ranges(tiles, kTilesPerTask, [&](int64_t first, int64_t last) {
    transform_tiles<W::kIn, W::kProducts, W::kStep>(g.source, g.grid, src, zeros, first, last,
                                                    v + first * g.v.pitch, g.v, typename W::Input{});
  });
  const int64_t chunks = ceil_div(tiles, g.chunk);
  parallel_for(panels * chunks, [&](int64_t task) {
    const int64_t panel = task / chunks, columns = panel_columns(g.width, panel);
    const int64_t first = (task - panel * chunks) * g.chunk, last = smaller(tiles, first + g.chunk);
    const Scratch scratch(g.u_floats() + g.m_floats());
    float *u = scratch.get(), *m = u + g.u_floats();
    const float* block = v + first * g.v.pitch;
    for (int64_t k = 0; k < g.depth; k += kFilterRows, block += g.v.block_step) {
      const int64_t rows = smaller(kFilterRows, g.depth - k);
      transform_filters(g, w, panel, k, rows, u, g.step_u());
      for (int64_t i = 0; i < g.kPositions; ++i) {
        if (k + rows < g.depth) prefetch_filters(g, w, panel, k + rows, i);
        multiply(block + i * g.v.position_step, last - first, rows, g.v.pitch,
                 u + filter_of<W>(i) * g.step_u(), columns, k > 0, m + i * g.step_m(), g.pitch_m);
      }
    }
    restore_tiles<W>(g.target, g.grid, m, g.step_m(), g.pitch_m, bias, panel * kPanel, columns, first, last,
                     dst);
  });
  EpiloguePieces(epilogue, 0, Pixels<W>(g, 0, tiles).count, g.width, dst).finish();
}

template <class W>
void run(const Conv2dParams& p, ConvPass pass, const float* src, const float* w, const float* bias,
         float* dst, const Epilogue& epilogue, float* workspace) {
  const Product<W> g(p, pass);
  float *zeros = workspace, *rest = zeros + g.zero_floats();
  for (int64_t c = 0; c < g.zero_floats(); ++c) zeros[c] = 0;
  (g.staged ? run_staged<W> : run_chunks<W>)(g, src, w, bias, dst, epilogue, zeros, rest);
}

template <class W>
int64_t workspace(const Conv2dParams& p, ConvPass pass) {
  const int64_t floats = pass == ConvPass::forward ? Product<W>(p, pass).workspace()
                         : pass == ConvPass::backward_input
                             ? Product<typename W::InputGradient>(p, pass).workspace()
                             : winograd_weight_floats<W>(p);
  return floats * int64_t(sizeof(float));
}

template <class W>
constexpr Convolution kWinograd = {
    workspace<W>,
    [](const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
       const Epilogue& epilogue,
       float* workspace) { run<W>(p, ConvPass::forward, x, w, bias, y, epilogue, workspace); },
    [](const Conv2dParams& p, const float* dy, const float* w, float* dx, float* workspace) {
      run<typename W::InputGradient>(p, ConvPass::backward_input, dy, w, nullptr, dx, {}, workspace);
    },
    winograd_backward_weight<W>};

/// f(W{}) with the algorithm of that tile for this geometry.
template <class F>
auto with_winograd(const Conv2dParams& p, int64_t tile, F f) {
  if (p.stride_h == 2) return f(StridedWinograd{});
  if (tile == 2 && p.in_h == 2 && p.in_w == 2 && p.pad_h == 1 && p.pad_w == 1) return f(TwoPixels{});
  return tile == 2 ? f(Winograd<2>{}) : tile == 3 ? f(Winograd<3>{}) : f(Winograd<4>{});
}

/// What the transforms of one vector of one position cost beside a multiply-add of vectors, as measured:
/// tiles that are read, tiles that are written, and filters; and how well the products use multiply-adds.
template <class W>
double cost_of(const Conv2dParams& p, ConvPass pass) {
  constexpr bool strided = W::kStep != W::kOut;
  constexpr double kFilter = 10, kEfficiency = strided ? 0.75 : 0.95;
  double read = strided ? 28 : 16, written = strided ? 12 : 11;
  if (strided && pass == ConvPass::backward_input) read = 12, written = 28;
  const double tiles = double(p.batch * ceil_div(out_h(p), W::kOut) * ceil_div(out_w(p), W::kOut));
  const double in_c = double(p.in_c), in_vectors = double(ceil_div(p.in_c, kWidth)),
               out_vectors = double(ceil_div(p.out_c, kWidth));
  return W::kProducts * W::kProducts * tiles *
             (in_c * out_vectors / kEfficiency + read * in_vectors + written * out_vectors) +
         W::kFilters * W::kFilters * kFilter * in_c * out_vectors;
}

}  // namespace

bool winograd_suits(const Conv2dParams& p, int64_t tile) {
  if (p.kernel_h != 3 || p.kernel_w != 3 || p.dilation_h != 1 || p.dilation_w != 1 || p.groups != 1)
    return false;
  if (p.stride_h == 2 && p.stride_w == 2) return tile == 4 && p.pad_h == 1 && p.pad_w == 1;
  return p.stride_h == 1 && p.stride_w == 1 && p.pad_h <= 2 && p.pad_w <= 2;
}

double winograd_cost(const Conv2dParams& p, ConvPass pass, int64_t tile) {
  return with_winograd(p, tile, [&](auto w) { return cost_of<decltype(w)>(as_forward(p, pass), pass); });
}

const Convolution& winograd_convolution(const Conv2dParams& p, int64_t tile) {
  return *with_winograd(p, tile, [](auto w) { return &kWinograd<decltype(w)>; });
}

}  // namespace weft::kernels::WEFT_ISA
