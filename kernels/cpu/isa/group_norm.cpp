// Group norm. One pixel with one group (layer norm) is a row of memory, which stays in the first cache while
// it is summed twice and written. Images are cut into slices of some groups: a task walks the pixels of a
// slice in strips of channels, and joins the channels' sums to those of the groups.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/strips.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {
namespace {

using Args = GroupNormArgs<float>;

/// f(access, i, a, b) adds to two sums, for all of [0, n); few at a time before they join the totals, because
/// rounding errors grow with the length of a sum.
template <class F>
WEFT_INLINE void add_up(int64_t n, float& sum_a, float& sum_b, F f) {
  constexpr int kChains = 4;
  constexpr int64_t kStep = kChains * kWidth, kRun = 64 * kStep;
  Vec total_a(0.0f), total_b(0.0f);
  int64_t i = 0;
  while (i + kWidth <= n) {
    const int64_t end = smaller(n, i + kRun);
    Vec a[kChains], b[kChains];
#pragma GCC unroll 4
    for (int k = 0; k < kChains; ++k) a[k] = b[k] = Vec(0.0f);
    for (; i + kStep <= end; i += kStep)
#pragma GCC unroll 4
      for (int k = 0; k < kChains; ++k) f(Whole{}, i + k * kWidth, a[k], b[k]);
    for (; i + kWidth <= end; i += kWidth) f(Whole{}, i, a[0], b[0]);
    total_a += (a[0] + a[1]) + (a[2] + a[3]);
    total_b += (b[0] + b[1]) + (b[2] + b[3]);
  }
  sum_a = lane_sum(total_a), sum_b = lane_sum(total_b);
  if (i == n) return;
  Vec a(0.0f), b(0.0f);
  f(Few{n - i}, i, a, b);
  float lanes_a[kWidth], lanes_b[kWidth];
  a.store(lanes_a), b.store(lanes_b);
  for (int64_t k = 0; k < n - i; ++k) sum_a += lanes_a[k], sum_b += lanes_b[k];
}

/// Mean and 1 / sqrt(var + eps) of n values from a first guess of the mean and the sums of the deviations
/// from it and of their squares.
struct Statistics {
  float mean, rstd;
  Statistics(double guess, double deviations, double squares, double n, double eps) {
    const double off = deviations / n, var = squares / n - off * off;
    mean = float(guess + off);
    rstd = float(1 / __builtin_sqrt((var < 0 ? 0 : var) + eps));
  }
};

template <class At>
WEFT_INLINE Vec load_or(At at, const float* p, int64_t i, float otherwise) {
  return p ? at.load(p + i) : Vec(otherwise);
}

// --- rows ---

constexpr int64_t kRowBlock = 8;

void forward_rows(const Args& a, double eps, float* y, float* mean, float* rstd) {
  const int64_t n = a.channels;
  parallel_ranges(a.batch, rows_per_task(n), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = a.x + r * n;
      float sum, rest, squares;
      add_up(n, sum, rest, [=](auto at, int64_t i, Vec& s, Vec&) { s += at.load(x + i); });
      const float guess = sum / float(n);
      add_up(n, sum, squares, [=](auto at, int64_t i, Vec& s, Vec& q) {
        const Vec d = at.load(x + i) - Vec(guess);
        s += d;
        q = fma(d, d, q);
      });
      const Statistics stats(double(guess), double(sum), double(squares), double(n), eps);
      mean[r] = stats.mean, rstd[r] = stats.rstd;
      float* to = y + r * n;
      each_vector(0, n, [=](auto at, int64_t i) {
        const Vec xhat = (at.load(x + i) - Vec(stats.mean)) * Vec(stats.rstd);
        at.store(fma(xhat, load_or(at, a.weight, i, 1), load_or(at, a.bias, i, 0)), to + i);
      });
    }
  });
}

// Some rows at a time: first what each row's mean and variance hand back, then all of them down the columns,
// so that the sums of the columns stay in registers.
void backward_rows(const Args& a, const float* mean, const float* rstd, const float* dy, float* dx,
                   float* dweight, float* dbias) {
  const int64_t n = a.channels;
  const Parts parts(a.batch, n, smaller(kMostParts, larger(8, (1 << 20) / n)));
  const Scratch scratch(parts.count * 2 * n);  // sums of the parts: of the weight, of the bias
  float* sums = scratch.get();
  parallel_for(parts.count, [=](int64_t part) {
    float *to_weight = sums + part * n, *to_bias = sums + (parts.count + part) * n;
    clear(to_weight, n), clear(to_bias, n);
    for (int64_t first = parts.begin(part); first < parts.begin(part + 1); first += kRowBlock) {
      const int64_t last = smaller(first + kRowBlock, parts.begin(part + 1));
      float slope[kRowBlock], shift[kRowBlock];
      for (int64_t r = first; dx && r < last; ++r) {
        const float *x = a.x + r * n, *from = dy + r * n, m = mean[r], s = rstd[r];
        float sum, product;
        add_up(n, sum, product, [=](auto at, int64_t i, Vec& g_sum, Vec& g_product) {
          const Vec g = at.load(from + i) * load_or(at, a.weight, i, 1);
          g_sum += g;
          g_product = fma(g, at.load(x + i) - Vec(m), g_product);
        });
        slope[r - first] = -s * s * s * product / float(n);
        shift[r - first] = -s * sum / float(n);
      }
      const float *slopes = slope, *shifts = shift;
      each_strip(first, last, n, [=]<int vecs>(Strip<vecs>, auto at, int64_t from, int64_t to, int64_t c) {
        Vec w[vecs], acc_weight[vecs], acc_bias[vecs];
#pragma GCC unroll 4
        for (int v = 0; v < vecs; ++v) {
          w[v] = load_or(at, a.weight, c + v * kWidth, 1);
          acc_weight[v] = acc_bias[v] = Vec(0.0f);
        }
        for (int64_t r = from; r < to; ++r) {
          const Vec m(mean[r]), s(rstd[r]);
#pragma GCC unroll 4
          for (int v = 0; v < vecs; ++v) {
            const int64_t i = r * n + c + v * kWidth;
            const Vec centred = at.load(a.x + i) - m, g = at.load(dy + i) * s;
            acc_weight[v] = fma(g, centred, acc_weight[v]);
            acc_bias[v] += at.load(dy + i);
            if (dx)
              at.store(fma(centred, Vec(slopes[r - first]), fma(g, w[v], Vec(shifts[r - first]))), dx + i);
          }
        }
#pragma GCC unroll 4
        for (int v = 0; v < vecs; ++v) {
          const int64_t k = c + v * kWidth;
          at.store(at.load(to_weight + k) + acc_weight[v], to_weight + k);
          at.store(at.load(to_bias + k) + acc_bias[v], to_bias + k);
        }
      });
    }
  });
  if (dweight) reduce(Reduce::sum, 1, parts.count, n, sums, dweight);
  if (dbias) reduce(Reduce::sum, 1, parts.count, n, sums + parts.count * n, dbias);
}

// --- images ---

// Channels that a task should have, if groups allow.
constexpr int64_t kSlice = 64;

/// Some groups of an image, and arrays for their channels.
struct Slice {
  int64_t image, group, groups, channel, columns, offset;
  Scratch memory;

  static int64_t groups_each(const Args& a) { return larger(1, kSlice / a.width()); }
  static int64_t count(const Args& a) { return a.batch * ceil_div(a.groups, groups_each(a)); }
  Slice(const Args& a, int64_t task)
      : image(task / ceil_div(a.groups, groups_each(a))),
        group(task % ceil_div(a.groups, groups_each(a)) * groups_each(a)),
        groups(smaller(groups_each(a), a.groups - group)),
        channel(group * a.width()),
        columns(groups * a.width()),
        offset(image * a.pixels * a.channels + channel),
        memory(4 * columns) {}
  float* array(int i) const { return memory.get() + i * columns; }
};

/// For each column: f(access, i, c, a, b) adds to the two sums of column c, for i down the pixels.
template <class F>
WEFT_INLINE void sum_columns(const Args& args, int64_t columns, float* a, float* b, F f) {
  const int64_t pitch = args.channels;
  clear(a, columns), clear(b, columns);
  each_strip(0, args.pixels, columns, [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) {
    Vec sum_a[n], sum_b[n];
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) sum_a[v] = sum_b[v] = Vec(0.0f);
    for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) f(at, r * pitch + c + v * kWidth, c + v * kWidth, sum_a[v], sum_b[v]);
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) {
      const int64_t k = c + v * kWidth;
      at.store(at.load(a + k) + sum_a[v], a + k);
      at.store(at.load(b + k) + sum_b[v], b + k);
    }
  });
}

/// y[i] = f(access, i, c) for all pixels and columns.
template <class F>
WEFT_INLINE void map_columns(const Args& args, int64_t columns, float* y, F f) {
  const int64_t pitch = args.channels;
  each_strip(0, args.pixels, columns, [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) {
    for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) {
        const int64_t k = c + v * kWidth;
        at.store(f(at, r * pitch + k, k), y + r * pitch + k);
      }
  });
}

void forward_images(const Args& a, double eps, float* y, float* mean, float* rstd) {
  const int64_t width = a.width();
  const double n = double(a.pixels * width);
  parallel_for(Slice::count(a), [=](int64_t task) {
    const Slice slice(a, task);
    const float* x = a.x + slice.offset;
    float *centre = slice.array(0), *sum = slice.array(1), *squares = slice.array(2), *scale = slice.array(3);
    sum_columns(a, slice.columns, sum, squares,
                [=](auto at, int64_t i, int64_t, Vec& s, Vec&) { s += at.load(x + i); });
    for (int64_t g = 0; g < slice.groups; ++g) {
      double total = 0;
      for (int64_t k = g * width; k < (g + 1) * width; ++k) total += double(sum[k]);
      for (int64_t k = g * width; k < (g + 1) * width; ++k) centre[k] = float(total / n);
    }
    sum_columns(a, slice.columns, sum, squares, [=](auto at, int64_t i, int64_t c, Vec& s, Vec& q) {
      const Vec d = at.load(x + i) - at.load(centre + c);
      s += d;
      q = fma(d, d, q);
    });
    float* shift = sum;  // of each group once its sums are read
    for (int64_t g = 0; g < slice.groups; ++g) {
      double guess = double(centre[g * width]), total = 0, total_squares = 0;
      for (int64_t k = g * width; k < (g + 1) * width; ++k)
        total += double(sum[k]), total_squares += double(squares[k]);
      const Statistics stats(guess, total, total_squares, n, eps);
      const int64_t at = slice.image * a.groups + slice.group + g;
      mean[at] = stats.mean, rstd[at] = stats.rstd;
      for (int64_t k = g * width; k < (g + 1) * width; ++k) {
        centre[k] = stats.mean;
        scale[k] = stats.rstd * (a.weight ? a.weight[slice.channel + k] : 1);
        shift[k] = a.bias ? a.bias[slice.channel + k] : 0;
      }
    }
    map_columns(a, slice.columns, y + slice.offset, [=](auto at, int64_t i, int64_t c) {
      return fma(at.load(x + i) - at.load(centre + c), at.load(scale + c), at.load(shift + c));
    });
  });
}

void backward_images(const Args& a, const float* mean, const float* rstd, const float* dy, float* dx,
                     float* dweight, float* dbias) {
  const int64_t width = a.width();
  const float n = float(a.pixels * width);
  const Scratch scratch(2 * a.batch * a.channels);  // sums of the images: of the weight, of the bias
  float *for_weight = scratch.get(), *for_bias = for_weight + a.batch * a.channels;
  parallel_for(Slice::count(a), [=](int64_t task) {
    const Slice slice(a, task);
    const float *x = a.x + slice.offset, *from = dy + slice.offset;
    float *centre = slice.array(0), *scale = slice.array(1), *slope = slice.array(2), *shift = slice.array(3);
    float *sum = for_bias + slice.image * a.channels + slice.channel,
          *product = for_weight + slice.image * a.channels + slice.channel;
    const float *means = mean + slice.image * a.groups + slice.group,
                *rstds = rstd + slice.image * a.groups + slice.group;
    for (int64_t k = 0; k < slice.columns; ++k) centre[k] = means[k / width];
    sum_columns(a, slice.columns, sum, product, [=](auto at, int64_t i, int64_t c, Vec& s, Vec& p) {
      const Vec g = at.load(from + i);
      s += g;
      p = fma(g, at.load(x + i) - at.load(centre + c), p);
    });
    for (int64_t g = 0; g < slice.groups; ++g) {
      const float s = rstds[g];
      double total = 0, total_product = 0;
      for (int64_t k = g * width; k < (g + 1) * width; ++k) {
        const float w = a.weight ? a.weight[slice.channel + k] : 1;
        total += double(w) * double(sum[k]), total_product += double(w) * double(product[k]);
        scale[k] = s * w;
        product[k] *= s;
      }
      for (int64_t k = g * width; k < (g + 1) * width; ++k) {
        slope[k] = -s * s * s * float(total_product) / n;
        shift[k] = -s * float(total) / n;
      }
    }
    if (dx)
      map_columns(a, slice.columns, dx + slice.offset, [=](auto at, int64_t i, int64_t c) {
        const Vec centred = at.load(x + i) - at.load(centre + c);
        return fma(centred, at.load(slope + c),
                   fma(at.load(from + i), at.load(scale + c), at.load(shift + c)));
      });
  });
  if (dweight) reduce(Reduce::sum, 1, a.batch, a.channels, for_weight, dweight);
  if (dbias) reduce(Reduce::sum, 1, a.batch, a.channels, for_bias, dbias);
}

bool is_row(const Args& a) { return a.pixels == 1 && a.groups == 1; }

}  // namespace

void group_norm_forward(const Args& a, double eps, float* y, float* mean, float* rstd) {
  is_row(a) ? forward_rows(a, eps, y, mean, rstd) : forward_images(a, eps, y, mean, rstd);
}

void group_norm_backward(const Args& a, const float* mean, const float* rstd, const float* dy, float* dx,
                         float* dweight, float* dbias) {
  is_row(a) ? backward_rows(a, mean, rstd, dy, dx, dweight, dbias)
            : backward_images(a, mean, rstd, dy, dx, dweight, dbias);
}

}  // namespace weft::kernels::WEFT_ISA
