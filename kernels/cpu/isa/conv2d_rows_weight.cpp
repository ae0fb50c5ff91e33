// The weight gradient on padded copies of rows: sums of units times vectors of dy, some units of a filter row
// at a time in registers.
#include "weft/kernels/cpu/isa/conv2d_rows.h"
#include "weft/kernels/cpu/isa/panels.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Parts of the output rows are summed apart; fixed by the geometry alone.
constexpr int64_t kMostParts = 32, kLeastPixels = 1024;
#if defined(WEFT_ISA_avx512) || defined(WEFT_ISA_neon)
constexpr int kMostUnits = 12;
#else
constexpr int kMostUnits = 6;
#endif

int64_t weight_parts(const RowPlan& plan) {
  const int64_t rows = plan.batch * plan.h.count;
  return larger(1, smaller(kMostParts, smaller(rows, rows * plan.w.count / kLeastPixels)));
}

struct RowSums {
  const float *x, *dy;
  int64_t rows, pixels;
  int64_t x_row, x_step, dy_row, dy_step;
  float* sums;
};

/// sums[unit] += sum over pixels of x[pixel][unit] * dy[pixel].
template <int kUnits, int kVecs, int kUnit>
void row_sums(const RowSums& t) {
  Vec acc[kUnits][kVecs];
#pragma GCC unroll 12
  for (int u = 0; u < kUnits; ++u)
#pragma GCC unroll 2
    for (int v = 0; v < kVecs; ++v) acc[u][v] = Vec(0.0f);
  for (int64_t i = 0; i < t.rows; ++i) {
    const float *x = t.x + i * t.x_row, *dy = t.dy + i * t.dy_row;
    for (int64_t j = t.pixels; j > 0; --j, x += t.x_step, dy += t.dy_step) {
      Vec g[kVecs];
#pragma GCC unroll 2
      for (int v = 0; v < kVecs; ++v) g[v] = Vec::load(dy + v * kWidth);
#pragma GCC unroll 12
      for (int u = 0; u < kUnits; ++u) {
        const Vec value = kUnit == 1 ? Vec(x[u]) : Vec::load(x + u * kUnit);
#pragma GCC unroll 2
        for (int v = 0; v < kVecs; ++v) acc[u][v] = fma(value, g[v], acc[u][v]);
      }
    }
  }
#pragma GCC unroll 12
  for (int u = 0; u < kUnits; ++u)
#pragma GCC unroll 2
    for (int v = 0; v < kVecs; ++v) {
      float* at = t.sums + (u * kVecs + v) * kWidth;
      (Vec::load(at) + acc[u][v]).store(at);
    }
}

template <int kUnits, int kVecs, int kUnit>
void sum_units(int64_t units, const RowSums& t) {
  if (units == kUnits) return row_sums<kUnits, kVecs, kUnit>(t);
  if constexpr (kUnits > 1) sum_units<kUnits - 1, kVecs, kUnit>(units, t);
}

/// The channels of a panel of some pixels, zeros up to whole vectors.
void copy_channels(const float* dy, int64_t pixels, int64_t pitch, int64_t columns, int64_t padded,
                   float* out) {
  for (int64_t i = 0; i < pixels; ++i, dy += pitch)
    for (int64_t c = 0; c < padded; ++c) *out++ = c < columns ? dy[c] : 0;
}

/// Adds output rows [row, row + rows) of image n to the sums.
void sum_block(const RowPlan& plan, const float* x, const float* dy, int64_t n, int64_t row, int64_t rows,
               float* copy, float* channels_copy, float* sums) {
  const int64_t pieces = ceil_div(plan.run_units(), kMostUnits);
  for (int64_t panel = 0; panel < plan.panels(); ++panel) {
    if (panel == 0 || plan.units_are_vectors()) copy_rows(plan, x, n, row, rows, panel, copy);
    const int64_t channel = panel * plan.panel();
    const int64_t columns = smaller(plan.panel(), plan.channels() - channel);
    const int64_t padded = round_up(columns, kWidth), pixels = rows * plan.w.count;
    RowSums t;
    t.rows = rows;
    t.pixels = plan.w.count;
    t.x_row = plan.h.step * plan.pitch();
    t.x_step = plan.w.step * plan.pixel();
    t.dy = dy + (n * plan.h.count + row) * plan.w.count * plan.channels() + channel;
    t.dy_step = plan.channels();
    if (padded > columns) {
      copy_channels(t.dy, pixels, t.dy_step, columns, padded, channels_copy);
      t.dy = channels_copy;
      t.dy_step = padded;
    }
    t.dy_row = plan.w.count * t.dy_step;
    t.sums = sums + channel * plan.inner();
    for (int64_t a = 0; a < plan.h.taps; ++a)
      for (int64_t b = 0; b < plan.runs(); ++b)
        for (int64_t piece = 0; piece < pieces; ++piece) {
          const int64_t first = piece * plan.run_units() / pieces;
          const int64_t units = (piece + 1) * plan.run_units() / pieces - first;
          t.x = copy + a * plan.h.tap_step * plan.pitch() + b * plan.w.tap_step * plan.pixel() +
                first * plan.unit();
          if (plan.units_are_vectors())
            sum_units<kMostUnits, 1, kWidth>(units, t);
          else if (padded == kWidth)
            sum_units<kMostUnits, 1, 1>(units, t);
          else
            sum_units<kMostUnits, 2, 1>(units, t);
          t.sums += units * padded;
        }
  }
}

}  // namespace

int64_t rows_weight_workspace(const Conv2dParams& p) {
  const RowPlan plan = forward_rows(p);
  return weight_parts(plan) * plan.weights() * int64_t(sizeof(float));
}

void rows_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                          float* workspace) {
  const RowPlan plan = forward_rows(p);
  const int64_t parts = weight_parts(plan), all = plan.batch * plan.h.count, block = plan.block();
  parallel_for(parts, [&](int64_t part) {
    float* sums = workspace + part * plan.weights();
    for (int64_t i = 0; i < plan.weights(); ++i) sums[i] = 0;
    const Scratch copy(plan.rows(block) * plan.pitch()), channels(block * plan.w.count * plan.panel());
    const int64_t last = (part + 1) * all / parts;
    for (int64_t q = part * all / parts, rows; q < last; q += rows) {
      const int64_t n = q / plan.h.count, row = q - n * plan.h.count;
      rows = smaller(block, smaller(last - q, plan.h.count - row));
      sum_block(plan, x, dy, n, row, rows, copy.get(), channels.get(), sums);
    }
  });
  const int64_t inner = plan.inner();
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < plan.weights(); ++i) workspace[i] += workspace[part * plan.weights() + i];
  for (int64_t c = 0; c < p.out_c; c += plan.panel()) {
    const int64_t columns = smaller(plan.panel(), p.out_c - c);
    transpose(workspace + c * inner, round_up(columns, kWidth), columns, inner, dw + c * inner, inner);
  }
}

}  // namespace weft::kernels::WEFT_ISA
