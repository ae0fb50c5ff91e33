// The loops of batch norm with an activation A, fixed or learned: in strips of a few vectors of channels down
// a block of rows, so that what belongs to a channel stays in registers. Sums over rows are taken over fixed
// parts of the rows and merged in their order.
#pragma once

#include "weft/kernels/activation_in_hand.h"
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/strips.h"

namespace weft::kernels::WEFT_ISA {

/// batch_norm_forward() of rows [begin, end) and channels [channel, channel + columns), on this thread.
void batch_norm_piece(const BatchNormArgs<float>& a, float* y, int64_t begin, int64_t end, int64_t channel,
                      int64_t columns);

// Where the activation is learned (batch_norm_learned.cpp).
void batch_norm_learned_piece(const BatchNormArgs<float>& a, float* y, int64_t begin, int64_t end,
                              int64_t channel, int64_t columns);
void batch_norm_learned_backward_reduce(const BatchNormArgs<float>& a, const float* dy, float* g,
                                        float* dweight, float* dbias, float* const* gradients);
void batch_norm_learned_backward_input(const BatchNormArgs<float>& a, const float* dy, const float* dweight,
                                       const float* dbias, bool training, float* dx);

namespace {

/// What the loops below need of a vector of channels.
template <class A>
struct Channel {
  Vec mean, scale, bias;
  InHand<A, Vec> act;

  template <class At>
  WEFT_INLINE void load(const BatchNormArgs<float>& a, At at, int64_t c) {
    mean = at.load(a.mean + c);
    scale = at.load(a.invstd + c) * at.load(a.weight + c);
    bias = at.load(a.bias + c);
    act.load(a, [=](const float* p) { return at.load(p + c); });
  }
};

/// g = dy * activation'(z), and x - mean.
struct Gradient {
  Vec g, centred, z, dy;
};
template <class A, class At>
WEFT_INLINE Gradient gradient(const BatchNormArgs<float>& a, const float* dy, At at, int64_t i,
                              const Channel<A>& ch) {
  const Vec centred = at.load(a.x + i) - ch.mean;
  Vec z = fma(centred, ch.scale, ch.bias);
  if (a.residual) z += at.load(a.residual + i);
  const Vec above = at.load(dy + i);
  return {above * ch.act.derivative(z), centred, z, above};
}

template <class A>
WEFT_INLINE void batch_norm_rows(const BatchNormArgs<float>& args, float* y, int64_t begin, int64_t end,
                                 int64_t channel, int64_t columns) {
  const BatchNormArgs<float> a = args;
  each_strip(
      begin, end, columns,
      [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t column)
          __attribute__((always_inline)) {
            const int64_t c = channel + column;
            Channel<A> ch[n];
#pragma GCC unroll 4
            for (int v = 0; v < n; ++v) ch[v].load(a, at, c + v * kWidth);
            for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
              for (int v = 0; v < n; ++v) {
                const int64_t i = r * a.channels + c + v * kWidth;
                Vec z = fma(at.load(a.x + i) - ch[v].mean, ch[v].scale, ch[v].bias);
                if (a.residual) z += at.load(a.residual + i);
                at.store(ch[v].act.forward(z), y + i);
              }
          });
}

/// Sums that a channel has: of g (x - mean), of g, of dy times the slope in each learned parameter.
template <class A>
constexpr int kSums = 2 + kLearnedCount<A>;

/// sums: [parts, kSums, channels]
template <class A>
WEFT_INLINE void batch_norm_sums(const BatchNormArgs<float>& args, const Parts& parts, const float* dy,
                                 float* g, float* sums) {
  constexpr int learned = kLearnedCount<A>;
  const int64_t channels = args.channels;
  // Elements from what is read to what is fetched from memory: with so much to compute for a row the
  // processor doesn't look far enough ahead by itself, and the pass takes twice as long.
  [[maybe_unused]] const int64_t ahead = smaller(32, (64 << 10) / channels) * channels;
  parallel_for(parts.count, [&](int64_t part) {
    const BatchNormArgs<float> a = args;
    float* to = sums + part * kSums<A> * channels;
    clear(to, kSums<A> * channels);
    each_strip<(kSums<A> > 3 ? 2 : 4)>(
        parts.begin(part), parts.begin(part + 1), channels,
        [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) __attribute__((always_inline)) {
          Channel<A> ch[n];
          Vec acc[n][kSums<A>];
#pragma GCC unroll 4
          for (int v = 0; v < n; ++v) {
            ch[v].load(a, at, c + v * kWidth);
#pragma GCC unroll 6
            for (int k = 0; k < kSums<A>; ++k) acc[v][k] = Vec(0.0f);
          }
          for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < n; ++v) {
              const int64_t i = r * channels + c + v * kWidth;
              if constexpr (learned > 0) {
                __builtin_prefetch(a.x + i + ahead);
                __builtin_prefetch(dy + i + ahead);
              }
              const Gradient d = gradient(a, dy, at, i, ch[v]);
              acc[v][0] = fma(d.g, d.centred, acc[v][0]);
              acc[v][1] += d.g;
              if constexpr (learned > 0) {
                Vec slopes[learned];
                ch[v].act.gradients(d.z, slopes);
#pragma GCC unroll 4
                for (int k = 0; k < learned; ++k) acc[v][2 + k] = fma(d.dy, slopes[k], acc[v][2 + k]);
              }
              if (g) at.store(d.g, g + i);
            }
#pragma GCC unroll 4
          for (int v = 0; v < n; ++v)
#pragma GCC unroll 6
            for (int k = 0; k < kSums<A>; ++k) {
              float* sum = to + k * channels + c + v * kWidth;
              at.store(at.load(sum) + acc[v][k], sum);
            }
        });
  });
}

/// Adds up sum k of `count` of channel c over the parts.
inline double sum_of_parts(const Parts& parts, const float* sums, int count, int k, int64_t c,
                           int64_t channels) {
  double sum = 0;
  for (int64_t part = 0; part < parts.count; ++part) sum += double(sums[(part * count + k) * channels + c]);
  return sum;
}
inline void finish_sums(const BatchNormArgs<float>& a, const Parts& parts, const float* sums, int count,
                        float* dweight, float* dbias, float* const* gradients) {
  for (int64_t c = 0; c < a.channels; ++c) {
    dweight[c] = float(sum_of_parts(parts, sums, count, 0, c, a.channels) * double(a.invstd[c]));
    dbias[c] = float(sum_of_parts(parts, sums, count, 1, c, a.channels));
  }
  for (int k = 2; k < count; ++k)
    for (int64_t c = 0; c < a.channels; ++c)
      gradients[k - 2][c] = float(sum_of_parts(parts, sums, count, k, c, a.channels));
}

template <class A>
WEFT_INLINE void batch_norm_input_gradient(const BatchNormArgs<float>& args, const float* dy,
                                           const float* dweight, const float* dbias, bool training,
                                           float* dx) {
  const BatchNormArgs<float> a = args;
  // dx = scale (g - [(x - mean) slope + shift]), the bracket being the share of mean and variance.
  const Vec share(training ? 1.0f / float(a.rows) : 0.0f);
  parallel_ranges(a.rows, rows_per_task(a.channels), [=](int64_t begin, int64_t end) {
    each_strip(
        begin, end, a.channels,
        [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) __attribute__((always_inline)) {
          Channel<A> ch[n];
          Vec slope[n], shift[n];
#pragma GCC unroll 4
          for (int v = 0; v < n; ++v) {
            const int64_t k = c + v * kWidth;
            ch[v].load(a, at, k);
            slope[v] = at.load(dweight + k) * at.load(a.invstd + k) * share;
            shift[v] = at.load(dbias + k) * share;
          }
          for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < n; ++v) {
              const int64_t i = r * a.channels + c + v * kWidth;
              const Gradient d = gradient(a, dy, at, i, ch[v]);
              Vec u = d.g;
              if (training) u = u - fma(d.centred, slope[v], shift[v]);
              at.store(ch[v].scale * u, dx + i);
            }
        });
  });
}

}  // namespace
}  // namespace weft::kernels::WEFT_ISA
