// Batch norm over [rows, channels], rows streamed in memory order. Sums over rows are taken over fixed parts
// of the rows and merged in their order.
#include "weft/kernels/cpu/isa/activations.h"
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/scratch.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Bytes of x that the second pass over a block finds in the cache, the most parts that are summed apart, and
// the least elements worth a part.
constexpr int64_t kBlockBytes = 64 << 10, kMostParts = 64, kLeastPart = 16 << 10;
// Rounding errors grow with the length of a sum: so many rows are summed before they join the total.
constexpr int64_t kRowsPerSum = 128;

struct Parts {
  int64_t rows, count;  // all rows, parts
  Parts(int64_t all_rows, int64_t channels)
      : rows(all_rows), count(larger(1, smaller(smaller(kMostParts, rows), rows * channels / kLeastPart))) {}
  int64_t begin(int64_t part) const { return part * rows / count; }
};

void clear(float* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = 0;
}

/// Mean and sum of squared deviations of rows [begin, end): block by block, each in two passes, the second of
/// which also mends the rounding of the first one's mean; merged by the formula of Chan, Golub and LeVeque
/// (1979).
void part_stats(int64_t begin, int64_t end, int64_t channels, const float* x, float* mean, float* squares) {
  const int64_t block = larger(32, kBlockBytes / (channels * int64_t(sizeof(float))));
  const Scratch scratch(3 * channels);
  float *centre = scratch.get(), *sum = centre + channels, *sum_squares = sum + channels;
  clear(mean, channels);
  clear(squares, channels);
  for (int64_t first = begin; first < end; first += block) {
    const int64_t last = smaller(end, first + block);
    clear(centre, 3 * channels);
    for (int64_t r = first; r < last; ++r)
      each_vector(0, channels, [=](auto at, int64_t c) {
        at.store(at.load(centre + c) + at.load(x + r * channels + c), centre + c);
      });
    const float rows = float(last - first), before = float(first - begin), all = before + rows;
    const Vec inverse(1.0f / rows);
    each_vector(0, channels,
                [=](auto at, int64_t c) { at.store(at.load(centre + c) * inverse, centre + c); });
    for (int64_t r = first; r < last; ++r)
      each_vector(0, channels, [=](auto at, int64_t c) {
        const Vec d = at.load(x + r * channels + c) - at.load(centre + c);
        at.store(at.load(sum + c) + d, sum + c);
        at.store(fma(d, d, at.load(sum_squares + c)), sum_squares + c);
      });
    const Vec share(rows / all), weight(before * (rows / all));
    each_vector(0, channels, [=](auto at, int64_t c) {
      const Vec off = at.load(sum + c) * inverse, block_mean = at.load(centre + c) + off;
      const Vec block_squares = at.load(sum_squares + c) - off * at.load(sum + c);
      const Vec m = at.load(mean + c), d = block_mean - m;
      at.store(fma(d, share, m), mean + c);
      at.store(at.load(squares + c) + fma(d * d, weight, block_squares), squares + c);
    });
  }
}

/// What the kernels below need of a vector of channels.
struct Channel {
  Vec mean, invstd, scale, bias;
};
template <class At>
WEFT_INLINE Channel load_channel(const BatchNormArgs<float>& a, At at, int64_t c) {
  const Vec invstd = at.load(a.invstd + c);
  return {at.load(a.mean + c), invstd, invstd * at.load(a.weight + c), at.load(a.bias + c)};
}

/// Calls f(activation, residual or not) with both known at compile time.
struct Yes {
  static constexpr bool value = true;
};
struct No {
  static constexpr bool value = false;
};
template <class F>
WEFT_INLINE void specialise(const BatchNormArgs<float>& a, F f) {
  with_activation(a.activation, [&](auto act) { a.residual ? f(act, Yes{}) : f(act, No{}); });
}

/// g = dy * activation'(z), and xhat = (x - mean) * invstd.
struct Gradient {
  Vec g, xhat;
};
template <class A, bool residual, class At>
WEFT_INLINE Gradient gradient(const BatchNormArgs<float>& a, const float* dy, At at, int64_t i,
                              const Channel& ch) {
  const Vec centred = at.load(a.x + i) - ch.mean;
  Vec z = fma(centred, ch.scale, ch.bias);
  if constexpr (residual) z += at.load(a.residual + i);
  return {at.load(dy + i) * A::derivative(z, Vec(a.param)), centred * ch.invstd};
}

}  // namespace

void batch_norm_stats(int64_t rows, int64_t channels, const float* x, float* mean, float* var) {
  const Parts parts(rows, channels);
  const Scratch scratch(parts.count * 2 * channels);
  float* stats = scratch.get();
  parallel_for(parts.count, [&](int64_t part) {
    float* to = stats + part * 2 * channels;
    part_stats(parts.begin(part), parts.begin(part + 1), channels, x, to, to + channels);
  });
  for (int64_t c = 0; c < channels; ++c) {
    double n = 0, m = 0, squares = 0;
    for (int64_t part = 0; part < parts.count; ++part) {
      const float* from = stats + part * 2 * channels + c;
      const double count = double(parts.begin(part + 1) - parts.begin(part)), d = double(*from) - m;
      squares += double(from[channels]) + d * d * (n * count / (n + count));
      n += count;
      m += d * (count / n);
    }
    mean[c] = float(m);
    var[c] = float(squares / n);
  }
}

void batch_norm_forward(const BatchNormArgs<float>& args, float* y) {
  specialise(args, [&]<class A, class Residual>(A, Residual) {
    const BatchNormArgs<float> a = args;
    parallel_ranges(a.rows, rows_per_task(a.channels), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        each_vector(0, a.channels, [=](auto at, int64_t c) {
          const int64_t i = r * a.channels + c;
          const Channel ch = load_channel(a, at, c);
          Vec z = fma(at.load(a.x + i) - ch.mean, ch.scale, ch.bias);
          if constexpr (Residual::value) z += at.load(a.residual + i);
          at.store(A::forward(z, Vec(a.param)), y + i);
        });
    });
  });
}

void batch_norm_backward_reduce(const BatchNormArgs<float>& args, const float* dy, float* g, float* dweight,
                                float* dbias) {
  const Parts parts(args.rows, args.channels);
  const int64_t channels = args.channels;
  // Of each part: sums of g * xhat, sums of g.
  const Scratch scratch(parts.count * 2 * channels);
  float* sums = scratch.get();
  specialise(args, [&]<class A, class Residual>(A, Residual) {
    parallel_for(parts.count, [&](int64_t part) {
      const BatchNormArgs<float> a = args;
      const Scratch own(2 * channels);
      float *total = sums + part * 2 * channels, *sum = own.get();
      clear(total, 2 * channels);
      const int64_t end = parts.begin(part + 1);
      for (int64_t first = parts.begin(part); first < end; first += kRowsPerSum) {
        clear(sum, 2 * channels);
        for (int64_t r = first; r < smaller(end, first + kRowsPerSum); ++r)
          each_vector(0, channels, [=](auto at, int64_t c) {
            const int64_t i = r * channels + c;
            const Gradient d = gradient<A, Residual::value>(a, dy, at, i, load_channel(a, at, c));
            at.store(fma(d.g, d.xhat, at.load(sum + c)), sum + c);
            at.store(at.load(sum + channels + c) + d.g, sum + channels + c);
            if (g) at.store(d.g, g + i);
          });
        each_vector(0, 2 * channels,
                    [=](auto at, int64_t c) { at.store(at.load(total + c) + at.load(sum + c), total + c); });
      }
    });
  });
  for (int64_t c = 0; c < channels; ++c) {
    double weight = 0, bias = 0;
    for (int64_t part = 0; part < parts.count; ++part) {
      weight += double(sums[part * 2 * channels + c]);
      bias += double(sums[(part * 2 + 1) * channels + c]);
    }
    dweight[c] = float(weight);
    dbias[c] = float(bias);
  }
}

void batch_norm_backward_input(const BatchNormArgs<float>& args, const float* dy, const float* dweight,
                               const float* dbias, bool training, float* dx) {
  specialise(args, [&]<class A, class Residual>(A, Residual) {
    const BatchNormArgs<float> a = args;
    const Vec share(training ? 1.0f / float(a.rows) : 0.0f);
    parallel_ranges(a.rows, rows_per_task(a.channels), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        each_vector(0, a.channels, [=](auto at, int64_t c) {
          const int64_t i = r * a.channels + c;
          const Channel ch = load_channel(a, at, c);
          const Gradient d = gradient<A, Residual::value>(a, dy, at, i, ch);
          Vec v = d.g;
          if (training) v = v - fma(d.xhat, at.load(dweight + c), at.load(dbias + c)) * share;
          at.store(ch.scale * v, dx + i);
        });
    });
  });
}

}  // namespace weft::kernels::WEFT_ISA
