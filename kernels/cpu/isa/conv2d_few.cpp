// Convolution to few channels (the gradient of a picture, the last layer of a generator or of a segmentation)
// and of few pixels. Vectors of output channels would be nearly empty, or their weights packed for little
// use, so lanes run over what is summed up instead: a row of the filter, all channels of its taps, lies in
// memory as one run, in the weights as in the padded copy of the source rows. What the lanes have is added up
// at the end.
#include "weft/kernels/cpu/isa/conv2d_rows.h"
#include "weft/kernels/cpu/isa/vec_math.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Floats of a copy, which stays in the L2 cache, and multiply-adds of vectors of a task.
constexpr int64_t kMostFloats = 64 << 10, kTask = 128 << 10;
// Sums in registers, and pixels and channels of a tile.
#if defined(WEFT_ISA_avx512) || defined(WEFT_ISA_neon)
constexpr int kSums = 24;
#else
constexpr int kSums = 12;
#endif
constexpr int kMostChannels = 4;
// They divide the 8 that the rows of a copy are rounded up to.
constexpr int pixels_of(int channels) { return 8 * channels <= kSums ? 8 : 4 * channels <= kSums ? 4 : 2; }
// What adding up the lanes of a sum costs beside a multiply-add of vectors.
constexpr double kLaneSum = 10;

struct FewTile {
  const float* src;
  int64_t step, row_step, run_step;  // floats between pixels, tap rows, runs
  int64_t tap_rows, runs, run;       // run: floats
  const float *weights, *bias;       // weights: each run to whole vectors
  int64_t channel_step;              // floats between the weights of two channels
  float* dst;
  int64_t dst_step;
  int64_t pixels;
};

/// dst[pixel][channel] = bias[channel] + sum over runs of src[pixel][run] * weights[channel][run].
template <int kChannels>
void few_tile(const FewTile& t) {
  constexpr int kPixels = pixels_of(kChannels);
  Vec acc[kPixels][kChannels];
#pragma GCC unroll 8
  for (int r = 0; r < kPixels; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kChannels; ++c) acc[r][c] = Vec(0.0f);
  const float* w = t.weights;
  const int64_t whole = t.run / kWidth * kWidth, rest = t.run - whole, step = t.step;
  const auto add = [&](const float* src, auto load) {
    Vec weight[kChannels];
#pragma GCC unroll 4
    for (int c = 0; c < kChannels; ++c) weight[c] = Vec::load(w + c * t.channel_step);
    w += kWidth;
#pragma GCC unroll 8
    for (int r = 0; r < kPixels; ++r) {
      const Vec x = load(src + r * step);
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c) acc[r][c] = fma(x, weight[c], acc[r][c]);
    }
  };
  for (int64_t a = 0; a < t.tap_rows; ++a)
    for (int64_t b = 0; b < t.runs; ++b) {
      const float* src = t.src + a * t.row_step + b * t.run_step;
      for (int64_t i = 0; i < whole; i += kWidth) add(src + i, [](const float* p) { return Vec::load(p); });
      if (rest > 0) add(src + whole, [=](const float* p) { return Vec::load_first(p, rest); });
    }
#pragma GCC unroll 8
  for (int r = 0; r < kPixels; ++r)
    if (r < t.pixels) {
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c)
        t.dst[r * t.dst_step + c] = lane_sum(acc[r][c]) + (t.bias ? t.bias[c] : 0);
    }
}

using FewTileFunction = void (*)(const FewTile&);
constexpr FewTileFunction kFewTiles[kMostChannels] = {few_tile<1>, few_tile<2>, few_tile<3>, few_tile<4>};

/// Floats of a channel's weights.
int64_t channel_weights(const RowPlan& plan) {
  return plan.h.taps * plan.runs() * round_up(plan.run_units(), kWidth);
}

/// Channels of a tile: a row of few pixels has no use for the 8 that fewer channels allow.
int64_t channels_together(const RowPlan& plan) {
  const int64_t most = plan.w.count <= 4 ? kMostChannels : kMostChannels - 1;
  return ceil_div(plan.channels(), ceil_div(plan.channels(), most));
}

/// An estimate of all sums, in multiply-adds of vectors.
double cost_of(const RowPlan& plan) {
  const int64_t pixels = round_up(plan.w.count, pixels_of(int(channels_together(plan))));
  return double(plan.batch * plan.h.count * pixels * plan.channels()) *
         (double(channel_weights(plan) / kWidth) + kLaneSum);
}

/// Weights of a channel in the order of the runs. at(a, b, d): the weight of a tap and source channel.
template <class F>
void pack_runs(const RowPlan& plan, F at, float* out) {
  const int64_t run = plan.run_units(), padded = round_up(run, kWidth), taps = plan.w.taps / plan.runs();
  for (int64_t a = 0; a < plan.h.taps; ++a)
    for (int64_t b = 0; b < plan.runs(); ++b, out += padded)
      for (int64_t i = 0; i < padded; ++i)
        out[i] = i < run ? at(a, b * taps + i / plan.depth, i % plan.depth) : 0;
}

/// Whether the weights of a forward pass already lie as pack_runs() would put them.
bool packed(const RowPlan& plan) { return plan.runs() == 1 && plan.run_units() % kWidth == 0; }

/// A tile but for where it is and what it reads.
FewTile tile_of(const RowPlan& plan) {
  FewTile t;
  t.step = plan.w.step * plan.depth;
  t.row_step = plan.h.tap_step * plan.pitch();
  t.run_step = plan.w.tap_step * plan.depth;
  t.tap_rows = plan.h.taps;
  t.runs = plan.runs();
  t.run = plan.run_units();
  t.channel_step = channel_weights(plan);
  t.dst_step = plan.w.dst_step * plan.channels();
  return t;
}

void run_few(const RowPlan& plan, const float* src, const float* weights, const float* bias, float* dst,
             const Epilogue& epilogue) {
  const int64_t channels = plan.channels(), per_channel = channel_weights(plan);
  const int64_t tasks = larger(1, int64_t(cost_of(plan)) / kTask);
  // Tasks are blocks of rows, or of channels where there is more of the weights to be read than of the
  // source.
  const bool by_channels = channels * per_channel > plan.batch * plan.h.source * plan.w.source * plan.depth;
  const int64_t together = channels_together(plan);
  const int64_t block =
      plan.block(kMostFloats, by_channels ? plan.h.count : larger(1, plan.batch * plan.h.count / tasks));
  const int64_t blocks = ceil_div(plan.h.count, block), row_tasks = plan.batch * blocks;
  const int64_t part =
      by_channels ? round_up(ceil_div(channels, ceil_div(tasks, row_tasks)), together) : channels;
  const int64_t channel_tasks = ceil_div(channels, part);
  EpiloguePieces pieces(epilogue, channel_tasks == 1 ? row_tasks : 0,
                        plan.batch * plan.h.count * plan.w.count, channels, dst);
  parallel_for(row_tasks * channel_tasks, [&](int64_t task) {
    const int64_t row_task = task / channel_tasks, n = row_task / blocks,
                  row = (row_task - n * blocks) * block;
    const int64_t first = (task - row_task * channel_tasks) * part, last = smaller(first + part, channels);
    const int64_t rows = smaller(block, plan.h.count - row);
    const Scratch copy(plan.rows(rows) * plan.pitch());
    copy_rows(plan, src, n, row, rows, 0, copy.get());
    FewTile t = tile_of(plan);
    for (int64_t c = first, some; c < last; c += some) {
      some = smaller(together, last - c);
      t.weights = weights + c * per_channel;
      t.bias = bias ? bias + c : nullptr;
      const int64_t pixels = pixels_of(int(some));
      for (int64_t i = 0; i < rows; ++i) {
        float* const out = dst + plan.target(n, row + i) + c;
        const float* const in = copy.get() + i * plan.h.step * plan.pitch();
        for (int64_t j = 0; j < plan.w.count; j += pixels) {
          t.pixels = smaller(pixels, plan.w.count - j);
          t.src = in + j * t.step;
          t.dst = out + j * t.dst_step;
          kFewTiles[some - 1](t);
        }
      }
    }
    pieces.add(row_task, (n * plan.h.count + row) * plan.w.count, rows * plan.w.count, 0, channels);
  });
  pieces.finish();
}

int64_t workspace(const Conv2dParams& p, ConvPass pass) {
  const bool forward = pass == ConvPass::forward;
  if (forward && packed(forward_rows(p))) return 0;
  const int64_t depth = forward ? p.in_c : p.out_c, width = forward ? p.out_c : p.in_c;
  return width * p.kernel_h * p.kernel_w * round_up(depth, kWidth) * int64_t(sizeof(float));
}

void forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
             const Epilogue& epilogue, float* workspace) {
  const RowPlan plan = forward_rows(p);
  if (packed(plan)) return run_few(plan, x, w, bias, y, epilogue);
  for (int64_t o = 0; o < p.out_c; ++o)
    pack_runs(
        plan,
        [&](int64_t a, int64_t b, int64_t d) {
          return w[((o * p.kernel_h + a) * p.kernel_w + b) * p.in_c + d];
        },
        workspace + o * channel_weights(plan));
  run_few(plan, x, workspace, bias, y, epilogue);
}

void backward_input(const Conv2dParams& p, const float* dy, const float* w, float* dx, float* workspace) {
  each_gradient_class(p, [&](const RowPlan& plan, const ParityClass& h, const ParityClass& v) {
    for (int64_t c = 0; c < p.in_c; ++c)
      pack_runs(
          plan,
          [&](int64_t a, int64_t b, int64_t d) {
            const int64_t kh = h.first_tap + a * h.tap_step, kw = v.first_tap + b * v.tap_step;
            return w[((d * p.kernel_h + kh) * p.kernel_w + kw) * p.in_c + c];
          },
          workspace + c * channel_weights(plan));
    run_few(plan, dy, workspace, nullptr, dx, {});
  });
}

constexpr Convolution kFew = {workspace, forward, backward_input, direct_backward_weight};

}  // namespace

double few_cost(const Conv2dParams& p, ConvPass pass) {
  if (pass == ConvPass::forward) return cost_of(forward_rows(p));
  double cost = 0;
  each_gradient_class(p, [&](const RowPlan& plan, auto&, auto&) { cost += cost_of(plan); });
  return cost;
}

// Where vectors of output channels would be nearly empty; or, as a forward pass may read weights where they
// lie, where few pixels share what the others take to pack them.
bool few_suit(const Conv2dParams& p, ConvPass pass) {
  if (pass == ConvPass::backward_weight || p.groups != 1) return false;
  if (as_forward(p, pass).out_c < kWidth) return few_cost(p, pass) < direct_cost(p, pass);
  if (pass != ConvPass::forward || !packed(forward_rows(p))) return false;
  constexpr double kEfficiency = 0.8;  // how well lanes over the sums use multiply-adds, beside whole tiles
  return few_cost(p, pass) < kEfficiency * direct_cost(p, pass);
}

const Convolution& few_convolution() { return kFew; }

}  // namespace weft::kernels::WEFT_ISA
