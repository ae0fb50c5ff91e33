// Softmax and log-softmax by rows, the row's maximum subtracted.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/cpu/isa/vec_math.h"

namespace weft::kernels::WEFT_ISA {
namespace {

/// Calls row(r) for each row, some rows a task.
template <class F>
void each_row(int64_t rows, int64_t cols, F row) {
  parallel_ranges(rows, rows_per_task(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) row(r * cols);
  });
}

float row_max(const float* x, int64_t n) {
  const float least = -__builtin_inff();
  Vec best(least);
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) best = max(Vec::load(x + i), best);
  if (i < n) best = max(Vec::load_first(x + i, n - i, least), best);
  return fold_lanes(best, [](Vec a, Vec b) { return max(a, b); });
}

/// Sum over the row of f(i, access), the lanes past the end left out. A lane's rounding errors grow with what
/// it holds: so many vectors are summed before they join the total.
template <class F>
float row_sum(int64_t n, F f) {
  constexpr int64_t kGroup = 512;
  double total = 0;
  int64_t i = 0;
  while (i + kWidth <= n) {
    Vec sum(0.0f);
    for (const int64_t end = smaller(n, i + kGroup * kWidth); i + kWidth <= end; i += kWidth)
      sum += f(Whole{}, i);
    total += lane_sum(sum);
  }
  if (i < n) {
    float lanes[kWidth];
    f(Few{n - i}, i).store(lanes);
    for (int64_t k = 0; k < n - i; ++k) total += lanes[k];
  }
  return float(total);
}

float log_of(float x) {
  float y;
  log(Vec(x)).store_first(&y, 1);
  return y;
}

}  // namespace

void softmax(int64_t rows, int64_t cols, const float* x, float* y) {
  each_row(rows, cols, [=](int64_t row) {
    const float *from = x + row, most = row_max(from, cols);
    float* to = y + row;
    const float sum = row_sum(cols, [=](auto at, int64_t i) {
      const Vec e = exp(at.load(from + i) - Vec(most));
      at.store(e, to + i);
      return e;
    });
    const Vec scale(1.0f / sum);
    each_vector(0, cols, [=](auto at, int64_t i) { at.store(at.load(to + i) * scale, to + i); });
  });
}

void log_softmax(int64_t rows, int64_t cols, const float* x, float* y) {
  each_row(rows, cols, [=](int64_t row) {
    const float *from = x + row, most = row_max(from, cols);
    const float sum = row_sum(cols, [=](auto at, int64_t i) { return exp(at.load(from + i) - Vec(most)); });
    const Vec log_sum(log_of(sum));
    float* to = y + row;
    each_vector(0, cols,
                [=](auto at, int64_t i) { at.store(at.load(from + i) - Vec(most) - log_sum, to + i); });
  });
}

void masked_softmax(const MaskedSoftmaxArgs<float>& args, float* y) {
  constexpr float inf = __builtin_inff();
  each_row(args.batch * args.heads * args.rows, args.cols, [=](int64_t start) {
    const MaskedSoftmaxArgs<float> a = args;
    const int64_t row = start / a.cols, r = row % a.rows, plane = row / a.rows, n = a.seen(r);
    const float* from = a.x + start;
    float* to = y + start;
    const Vec scale(a.scale);
    if (const float* mask = a.mask_row(plane, r)) {
      each_vector(0, n, [=](auto at, int64_t i) {
        const Vec m = at.load(mask + i);
        at.store(select(m == Vec(-inf), m, fma(at.load(from + i), scale, m)), to + i);
      });
    } else {
      each_vector(0, n, [=](auto at, int64_t i) { at.store(at.load(from + i) * scale, to + i); });
    }
    for (int64_t i = n; i < a.cols; ++i) to[i] = 0;
    const float most = row_max(to, n);
    if (most == -inf) {  // nothing is left, or NaN alone
      bool nothing = true;
      for (int64_t i = 0; i < n; ++i) nothing = nothing && to[i] == -inf;
      for (int64_t i = 0; i < a.cols; ++i) to[i] = nothing ? 0 : __builtin_nanf("");
      return;
    }
    const float sum = row_sum(n, [=](auto at, int64_t i) {
      const Vec e = exp(at.load(to + i) - Vec(most));
      at.store(e, to + i);
      return e;
    });
    const Vec share(1.0f / sum);
    each_vector(0, n, [=](auto at, int64_t i) { at.store(at.load(to + i) * share, to + i); });
  });
}

void softmax_backward(int64_t rows, int64_t cols, const float* y, const float* dy, float* dx) {
  each_row(rows, cols, [=](int64_t row) {
    const float *out = y + row, *g = dy + row;
    const Vec dot(row_sum(cols, [=](auto at, int64_t i) { return at.load(out + i) * at.load(g + i); }));
    float* to = dx + row;
    each_vector(0, cols,
                [=](auto at, int64_t i) { at.store(at.load(out + i) * (at.load(g + i) - dot), to + i); });
  });
}

void log_softmax_backward(int64_t rows, int64_t cols, const float* y, const float* dy, float* dx) {
  each_row(rows, cols, [=](int64_t row) {
    const float *out = y + row, *g = dy + row;
    const Vec sum(row_sum(cols, [=](auto at, int64_t i) { return at.load(g + i); }));
    float* to = dx + row;
    each_vector(0, cols,
                [=](auto at, int64_t i) { at.store(at.load(g + i) - exp(at.load(out + i)) * sum, to + i); });
  });
}

}  // namespace weft::kernels::WEFT_ISA
