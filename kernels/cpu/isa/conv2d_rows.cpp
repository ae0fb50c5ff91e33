#include "weft/kernels/cpu/isa/conv2d_rows.h"

#include "weft/kernels/cpu/isa/panels.h"
#include "weft/kernels/cpu/isa/vec_math.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Rows of tiles. 16 registers do not hold the sums of a tall one of two vectors.
constexpr int kTall = 8, kShort = 4;
#if defined(WEFT_ISA_avx512) || defined(WEFT_ISA_neon)
constexpr int kTallPair = kTall;
#else
constexpr int kTallPair = kShort;
#endif
// The widest group that is worth copying for.
constexpr int64_t kWidestGroup = 16;

struct RowTile {
  const float* src;
  int64_t step, row_step, run_step;  // floats between pixels, tap rows, runs
  int64_t tap_rows, runs, units;
  const float *weights, *bias;
  float* dst;
  int64_t dst_step;
  int64_t rows, columns;
};

template <int kUnit>
WEFT_INLINE Vec load_unit(const float* p) {
  return kUnit == 1 ? Vec(*p) : Vec::load(p);
}

/// dst[r] = bias + sum over units of src[r][unit] * weights[unit].
template <int kRows, int kVecs, int kUnit>
void row_tile(const RowTile& t) {
  Vec acc[kRows][kVecs];
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    const int64_t count = smaller(kWidth, t.columns - v * kWidth);
    const Vec start = t.bias ? Vec::load_first(t.bias + v * kWidth, count) : Vec(0.0f);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) acc[r][v] = start;
  }
  const float* w = t.weights;
  const int64_t step = t.step;
  for (int64_t a = 0; a < t.tap_rows; ++a) {
    for (int64_t b = 0; b < t.runs; ++b) {
      const float* src = t.src + a * t.row_step + b * t.run_step;
      for (int64_t d = 0; d < t.units; ++d, src += kUnit, w += kVecs * kWidth) {
        Vec weight[kVecs];
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) weight[v] = Vec::load(w + v * kWidth);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const Vec x = load_unit<kUnit>(src + r * step);
#pragma GCC unroll 4
          for (int v = 0; v < kVecs; ++v) acc[r][v] = fma(x, weight[v], acc[r][v]);
        }
      }
    }
  }
  if (t.columns == kVecs * kWidth) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      if (r < t.rows) {
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) acc[r][v].store(t.dst + r * t.dst_step + v * kWidth);
      }
    return;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
    if (r < t.rows) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v)
        acc[r][v].store_first(t.dst + r * t.dst_step + v * kWidth, smaller(kWidth, t.columns - v * kWidth));
    }
}

using RowTileFunction = void (*)(const RowTile&);
/// The tile of kShort or kTall rows.
RowTileFunction row_tile_function(bool tall, bool pair, int64_t unit) {
  if (unit > 1) return tall ? row_tile<kTall, 1, kWidth> : row_tile<kShort, 1, kWidth>;
  if (pair) return tall ? row_tile<kTallPair, 2, 1> : row_tile<kShort, 2, 1>;
  return tall ? row_tile<kTall, 1, 1> : row_tile<kShort, 1, 1>;
}

/// A row's units that are vectors: of `count` pixels.
void copy_vectors(const RowPlan& plan, const float* src, int64_t count, int64_t panel, float* out) {
  const int64_t pitch = plan.groups * plan.depth;
  const int64_t first = panel * kWidth / plan.width * plan.depth;  // source channel
  const int64_t lanes = smaller(kWidth, plan.channels() - panel * kWidth);
  alignas(64) int32_t index[kWidth] = {};
  for (int64_t l = 0; l < lanes; ++l)
    index[l] = int32_t((panel * kWidth + l) / plan.width * plan.depth - first);
  const int64_t span = index[lanes - 1] + plan.depth;
  if (span <= kWidth) {
    const int64_t readable = smaller(kWidth, pitch - first);
    for (int64_t i = 0; i < count; ++i, src += pitch) {
      const Vec v = readable == kWidth ? Vec::load(src + first) : Vec::load_first(src + first, readable);
      int32_t at[kWidth];
      for (int l = 0; l < kWidth; ++l) at[l] = index[l];
      for (int64_t k = 0; k < plan.depth; ++k, out += kWidth) {
        permute(v, at).store(out);
        for (int l = 0; l < kWidth; ++l) ++at[l];
      }
    }
  } else {
    for (int64_t i = 0; i < count; ++i, src += pitch)
      for (int64_t k = 0; k < plan.depth; ++k, out += kWidth)
        for (int l = 0; l < kWidth; ++l) out[l] = src[first + index[l] + k];
  }
}

void zero(float* p, int64_t n) {
  if (n > 0) std::memset(p, 0, size_t(n) * sizeof(float));
}

void run_rows(const RowPlan& plan, const float* src, const float* weights, const float* bias, float* dst,
              const Epilogue& epilogue) {
  const int64_t block = plan.block(), blocks = ceil_div(plan.h.count, block), channels = plan.channels();
  EpiloguePieces pieces(epilogue, plan.batch * blocks, plan.batch * plan.h.count * plan.w.count, channels,
                        dst);
  parallel_for(plan.batch * blocks, [&](int64_t task) {
    const int64_t n = task / blocks, row = (task - n * blocks) * block;
    const int64_t rows = smaller(block, plan.h.count - row);
    const Scratch copy(plan.rows(rows) * plan.pitch());
    RowTile t;
    t.step = plan.w.step * plan.pixel();
    t.row_step = plan.h.tap_step * plan.pitch();
    t.run_step = plan.w.tap_step * plan.pixel();
    t.tap_rows = plan.h.taps;
    t.runs = plan.runs();
    t.units = plan.run_units();
    t.dst_step = plan.w.dst_step * channels;
    for (int64_t panel = 0; panel < plan.panels(); ++panel) {
      if (panel == 0 || plan.units_are_vectors()) copy_rows(plan, src, n, row, rows, panel, copy.get());
      const int64_t channel = panel * plan.panel();
      t.columns = smaller(plan.panel(), channels - channel);
      t.weights = weights + channel * plan.inner();
      t.bias = bias ? bias + channel : nullptr;
      for (int64_t i = 0; i < rows; ++i) {
        float* out = dst + plan.target(n, row + i) + channel;
        const float* in = copy.get() + i * plan.h.step * plan.pitch();
        for (int64_t j = 0; j < plan.w.count; j += t.rows) {
          const bool pair = t.columns > kWidth;
          const int tall_rows = pair ? kTallPair : kTall;
          const bool tall = plan.w.count - j > kShort;
          t.rows = smaller(tall ? tall_rows : kShort, plan.w.count - j);
          t.src = in + j * t.step;
          t.dst = out + j * t.dst_step;
          row_tile_function(tall, pair, plan.unit())(t);
        }
      }
    }
    pieces.add(task, (n * plan.h.count + row) * plan.w.count, rows * plan.w.count, 0, channels);
  });
  pieces.finish();
}

/// The weights of the taps of an input gradient, panel by panel.
void pack_gradient(const Conv2dParams& p, const float* w, const ParityClass& h, const ParityClass& v,
                   float* out) {
  const int64_t in_c = p.in_c / p.groups, out_c = p.out_c / p.groups;
  for (int64_t channel = 0; channel < p.in_c; channel += kWidth)
    for (int64_t a = 0; a < h.axis.taps; ++a)
      for (int64_t b = 0; b < v.axis.taps; ++b)
        for (int64_t o = 0; o < out_c; ++o)
          for (int64_t i = channel; i < channel + kWidth; ++i)
            *out++ =
                i < p.in_c
                    ? w[(((i / in_c * out_c + o) * p.kernel_h + h.first_tap + a * h.tap_step) * p.kernel_w +
                         v.first_tap + b * v.tap_step) *
                            in_c +
                        i % in_c]
                    : 0;
}

int64_t workspace(const Conv2dParams& p, ConvPass pass) {
  if (pass == ConvPass::backward_weight) return rows_weight_workspace(p);
  const bool forward = pass == ConvPass::forward;
  const int64_t depth = (forward ? p.in_c : p.out_c) / p.groups, width = forward ? p.out_c : p.in_c;
  return p.kernel_h * p.kernel_w * depth * round_up(width, kWidth) * int64_t(sizeof(float));
}

void forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
             const Epilogue& epilogue, float* workspace) {
  const RowPlan plan = forward_rows(p);
  const int64_t inner = plan.inner();
  for (int64_t c = 0; c < p.out_c; c += plan.panel())
    pack_panel(w + c * inner, inner, 1, smaller(plan.panel(), p.out_c - c), inner, workspace + c * inner);
  run_rows(plan, x, workspace, bias, y, epilogue);
}

void backward_input(const Conv2dParams& p, const float* dy, const float* w, float* dx, float* workspace) {
  each_gradient_class(p, [&](const RowPlan& plan, const ParityClass& h, const ParityClass& v) {
    pack_gradient(p, w, h, v, workspace);
    run_rows(plan, dy, workspace, nullptr, dx, {});
  });
}

constexpr Convolution kRows = {workspace, forward, backward_input, rows_backward_weight};

}  // namespace

int64_t RowPlan::block(int64_t floats, int64_t most) const {
  int64_t count = most;
  while (count > 1 && rows(count) * pitch() > floats) count /= 2;
  return smaller(count, h.count);
}

RowPlan forward_rows(const Conv2dParams& p) {
  RowPlan plan;
  plan.batch = p.batch;
  plan.groups = p.groups;
  plan.depth = p.in_c / p.groups;
  plan.width = p.out_c / p.groups;
  plan.h = forward_axis(p.in_h, out_h(p), p.kernel_h, p.stride_h, p.pad_h, p.dilation_h);
  plan.w = forward_axis(p.in_w, out_w(p), p.kernel_w, p.stride_w, p.pad_w, p.dilation_w);
  return plan;
}

void copy_rows(const RowPlan& plan, const float* src, int64_t n, int64_t row, int64_t count, int64_t panel,
               float* out) {
  const int64_t pixel = plan.pixel(), columns = plan.pitch() / pixel, channels = plan.groups * plan.depth;
  const int64_t left = smaller(columns, larger(0, -plan.w.first)), from = larger(0, plan.w.first);
  const int64_t inside = larger(0, smaller(columns - left, plan.w.source - from));
  for (int64_t r = 0; r < plan.rows(count); ++r, out += plan.pitch()) {
    const int64_t y = row * plan.h.step + plan.h.first + r;
    if (uint64_t(y) >= uint64_t(plan.h.source)) {
      zero(out, plan.pitch());
      continue;
    }
    const float* in = src + ((n * plan.h.source + y) * plan.w.source + from) * channels;
    zero(out, left * pixel);
    if (plan.units_are_vectors())
      copy_vectors(plan, in, inside, panel, out + left * pixel);
    else
      std::memcpy(out + left * pixel, in, size_t(inside * pixel) * sizeof(float));
    zero(out + (left + inside) * pixel, (columns - left - inside) * pixel);
  }
}

bool rows_suit(const Conv2dParams& p, ConvPass pass) {
  if (p.groups == 1) return p.in_c <= kFewInputs && pass != ConvPass::backward_input;
  const int64_t in_c = p.in_c / p.groups, out_c = p.out_c / p.groups;
  if (in_c > kWidestGroup || out_c > kWidestGroup) return false;
  return (pass == ConvPass::backward_input ? in_c : out_c) < kWidth;
}

const Convolution& row_convolution() { return kRows; }

}  // namespace weft::kernels::WEFT_ISA
