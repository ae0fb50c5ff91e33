#include "weft/kernels/cpu/scalar.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "weft/kernels/parallel.h"

namespace weft::kernels::scalar {
namespace {

/// What cross entropy aims at in one row: labels or probabilities.
struct Target {
  const CrossEntropyArgs<float>& a;

  /// -sum t log p.
  double loss(int64_t r, const float* log_p) const {
    const auto term = [](double t, float lp) { return t != 0 ? t * double(lp) : 0.0; };
    if (a.labels) {
      if (a.labels[r] < 0 || a.labels[r] >= a.classes) return std::numeric_limits<double>::quiet_NaN();
      const double share = a.smoothing / double(a.classes);
      const double all = share != 0 ? share * sum([=](int64_t c) { return double(log_p[c]); }) : 0;
      return -(all + term(1 - a.smoothing, log_p[a.labels[r]]));
    }
    const float* t = a.probabilities + r * a.classes;
    return -sum([=](int64_t c) { return term(double(t[c]), log_p[c]); });
  }

  /// out = scale * t.
  void scaled(int64_t r, double scale, float* out) const {
    if (a.labels) {
      std::fill(out, out + a.classes, float(scale * a.smoothing / double(a.classes)));
      if (a.labels[r] >= 0 && a.labels[r] < a.classes) out[a.labels[r]] += float(scale * (1 - a.smoothing));
      return;
    }
    const float* t = a.probabilities + r * a.classes;
    for (int64_t c = 0; c < a.classes; ++c) out[c] = float(scale) * t[c];
  }

 private:
  /// The sum of f over the classes, in four chains of additions.
  template <class F>
  double sum(F f) const {
    double sums[4] = {};
    int64_t c = 0;
    for (; c + 4 <= a.classes; c += 4)
      for (int i = 0; i < 4; ++i) sums[i] += f(c + i);
    for (; c < a.classes; ++c) sums[0] += f(c);
    return sums[0] + sums[1] + (sums[2] + sums[3]);
  }
};

/// Calls f(first, count) for blocks of rows that stay in the cache between the passes over them.
template <class F>
void each_block(int64_t rows, int64_t classes, F f) {
  parallel_ranges(rows, std::max<int64_t>(1, (16 << 10) / classes),
                  [&](int64_t begin, int64_t end) { f(begin, end - begin); });
}

}  // namespace

void argmax(int64_t rows, int64_t cols, const float* x, int64_t* y) {
  parallel_ranges(rows, 1 + (1 << 15) / cols, [&](int64_t begin, int64_t end) {
    reference<float>().argmax(end - begin, cols, x + begin * cols, y + begin);
  });
}

void batch_norm_update(int64_t rows, int64_t channels, double eps, double momentum, const float* mean,
                       const float* var, float* running_mean, float* running_var, float* invstd) {
  reference<float>().batch_norm_update(rows, channels, eps, momentum, mean, var, running_mean, running_var,
                                       invstd);
}

void cross_entropy_forward(const CrossEntropyArgs<float>& a, float* log_p, float* loss) {
  std::vector<double> losses(static_cast<size_t>(a.rows));
  each_block(a.rows, a.classes, [&](int64_t first, int64_t count) {
    cpu().log_softmax(count, a.classes, a.logits + first * a.classes, log_p + first * a.classes);
    for (int64_t r = first; r < first + count; ++r)
      losses[size_t(r)] = Target{a}.loss(r, log_p + r * a.classes);
  });
  double total = 0;
  for (double row : losses) total += row;
  *loss = float(total / double(a.rows));
}

// The log softmax's backward with dlogp = -t dloss / rows.
void cross_entropy_backward(const CrossEntropyArgs<float>& a, const float* log_p, const float* dloss,
                            float* dx) {
  const double scale = -double(*dloss) / double(a.rows);
  each_block(a.rows, a.classes, [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) Target{a}.scaled(r, scale, dx + r * a.classes);
    float* block = dx + first * a.classes;
    cpu().log_softmax_backward(count, a.classes, log_p + first * a.classes, block, block);
  });
}

}  // namespace weft::kernels::scalar
