// Batch norm over [rows, channels], in strips of a few vectors of channels down a block of rows, so that what
// belongs to a channel stays in registers. Sums over rows are taken over fixed parts of the rows and merged
// in their order.
#include "weft/kernels/cpu/isa/activations.h"
#include "weft/kernels/cpu/isa/channel_stats.h"
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/strips.h"

namespace weft::kernels::WEFT_ISA {
namespace {

/// What the kernels below need of a vector of channels.
struct Channel {
  Vec mean, scale, bias;
};
template <class At>
WEFT_INLINE Channel load_channel(const BatchNormArgs<float>& a, At at, int64_t c) {
  return {at.load(a.mean + c), at.load(a.invstd + c) * at.load(a.weight + c), at.load(a.bias + c)};
}

/// g = dy * activation'(z), and x - mean.
struct Gradient {
  Vec g, centred;
};
template <class A, class At>
WEFT_INLINE Gradient gradient(const BatchNormArgs<float>& a, const float* dy, At at, int64_t i,
                              const Channel& ch) {
  const Vec centred = at.load(a.x + i) - ch.mean;
  Vec z = fma(centred, ch.scale, ch.bias);
  if (a.residual) z += at.load(a.residual + i);
  return {at.load(dy + i) * A::derivative(z, Vec(a.param)), centred};
}

}  // namespace

void batch_norm_stats(int64_t rows, int64_t channels, const float* x, float* mean, float* var) {
  const Parts parts(rows, channels);
  StatsParts stats(parts.count, channels);
  parallel_for(parts.count, [&](int64_t part) {
    const int64_t begin = parts.begin(part);
    stats.add(part, x + begin * channels, parts.begin(part + 1) - begin, channels, 0, channels);
  });
  stats.combine(mean, var);
}

void batch_norm_forward(const BatchNormArgs<float>& args, float* y) {
  with_activation(args.activation, [&]<class A>(A) {
    const BatchNormArgs<float> a = args;
    parallel_ranges(a.rows, rows_per_task(a.channels), [=](int64_t begin, int64_t end) {
      each_strip(begin, end, a.channels,
                 [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) {
                   Channel ch[n];
#pragma GCC unroll 4
                   for (int v = 0; v < n; ++v) ch[v] = load_channel(a, at, c + v * kWidth);
                   for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
                     for (int v = 0; v < n; ++v) {
                       const int64_t i = r * a.channels + c + v * kWidth;
                       Vec z = fma(at.load(a.x + i) - ch[v].mean, ch[v].scale, ch[v].bias);
                       if (a.residual) z += at.load(a.residual + i);
                       at.store(A::forward(z, Vec(a.param)), y + i);
                     }
                 });
    });
  });
}

void batch_norm_backward_reduce(const BatchNormArgs<float>& args, const float* dy, float* g, float* dweight,
                                float* dbias) {
  const Parts parts(args.rows, args.channels);
  const int64_t channels = args.channels;
  // Of each part: sums of g (x - mean), sums of g.
  const Scratch scratch(parts.count * 2 * channels);
  float* sums = scratch.get();
  with_activation(args.activation, [&]<class A>(A) {
    parallel_for(parts.count, [&](int64_t part) {
      const BatchNormArgs<float> a = args;
      float *sum_centred = sums + part * 2 * channels, *sum = sum_centred + channels;
      clear(sum_centred, 2 * channels);
      each_strip(parts.begin(part), parts.begin(part + 1), channels,
                 [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) {
                   Channel ch[n];
                   Vec acc_centred[n], acc[n];
#pragma GCC unroll 4
                   for (int v = 0; v < n; ++v) {
                     ch[v] = load_channel(a, at, c + v * kWidth);
                     acc_centred[v] = acc[v] = Vec(0.0f);
                   }
                   for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
                     for (int v = 0; v < n; ++v) {
                       const int64_t i = r * channels + c + v * kWidth;
                       const Gradient d = gradient<A>(a, dy, at, i, ch[v]);
                       acc_centred[v] = fma(d.g, d.centred, acc_centred[v]);
                       acc[v] += d.g;
                       if (g) at.store(d.g, g + i);
                     }
#pragma GCC unroll 4
                   for (int v = 0; v < n; ++v) {
                     float *to = sum_centred + c + v * kWidth, *to_sum = sum + c + v * kWidth;
                     at.store(at.load(to) + acc_centred[v], to);
                     at.store(at.load(to_sum) + acc[v], to_sum);
                   }
                 });
    });
  });
  for (int64_t c = 0; c < channels; ++c) {
    double weight = 0, bias = 0;
    for (int64_t part = 0; part < parts.count; ++part) {
      weight += double(sums[part * 2 * channels + c]);
      bias += double(sums[(part * 2 + 1) * channels + c]);
    }
    dweight[c] = float(weight * double(args.invstd[c]));
    dbias[c] = float(bias);
  }
}

void batch_norm_backward_input(const BatchNormArgs<float>& args, const float* dy, const float* dweight,
                               const float* dbias, bool training, float* dx) {
  with_activation(args.activation, [&]<class A>(A) {
    const BatchNormArgs<float> a = args;
    // dx = scale (g - [(x - mean) slope + shift]), the bracket being the share of mean and variance.
    const Vec share(training ? 1.0f / float(a.rows) : 0.0f);
    parallel_ranges(a.rows, rows_per_task(a.channels), [=](int64_t begin, int64_t end) {
      each_strip(begin, end, a.channels,
                 [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) {
                   Channel ch[n];
                   Vec slope[n], shift[n];
#pragma GCC unroll 4
                   for (int v = 0; v < n; ++v) {
                     const int64_t k = c + v * kWidth;
                     ch[v] = load_channel(a, at, k);
                     slope[v] = at.load(dweight + k) * at.load(a.invstd + k) * share;
                     shift[v] = at.load(dbias + k) * share;
                   }
                   for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
                     for (int v = 0; v < n; ++v) {
                       const int64_t i = r * a.channels + c + v * kWidth;
                       const Gradient d = gradient<A>(a, dy, at, i, ch[v]);
                       Vec u = d.g;
                       if (training) u = u - fma(d.centred, slope[v], shift[v]);
                       at.store(ch[v].scale * u, dx + i);
                     }
                 });
    });
  });
}

}  // namespace weft::kernels::WEFT_ISA
