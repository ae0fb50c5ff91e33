// Group and spectral norm and the masked softmax on every instruction set of this machine, against
// the reference loops in double.
#include <doctest/doctest.h>

#include "support/kernel_tables.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

/// batch, pixels, groups, channels
struct NormShape {
  int64_t batch, pixels, groups, channels;
  int64_t numel() const { return batch * pixels * channels; }
};
// Rows (layer norm) short and long, with and without tails; groups of one channel, of few, of many; several
// slices of channels, the last one short.
const NormShape kShapes[] = {{1, 1, 1, 1},    {3, 1, 1, 5},    {7, 1, 1, 16},    {33, 1, 1, 100},
                             {700, 1, 1, 64}, {3, 1, 1, 5000}, {2, 1, 1, 70000}, {5, 1, 3, 12},
                             {2, 9, 1, 7},    {3, 49, 4, 64},  {2, 300, 8, 200}, {2, 35, 66, 66},
                             {1, 5, 3, 9},    {4, 64, 2, 150}, {9, 3, 70, 210}};

template <class T>
GroupNormArgs<T> args(const NormShape& s, const std::vector<T>& x, const std::vector<T>* weight,
                      const std::vector<T>* bias) {
  GroupNormArgs<T> a;
  a.batch = s.batch, a.pixels = s.pixels, a.groups = s.groups, a.channels = s.channels;
  a.x = x.data();
  if (weight) a.weight = weight->data();
  if (bias) a.bias = bias->data();
  return a;
}

size_t count(int64_t n) { return size_t(n); }

}  // namespace

TEST_CASE("group norm, forward and backward") {
  for (const NormShape& s : kShapes)
    for (const bool affine : {true, false})
      for (const float centre : {0.0f, 200.0f}) {
        CAPTURE(s.batch);
        CAPTURE(s.pixels);
        CAPTURE(s.groups);
        CAPTURE(s.channels);
        CAPTURE(affine);
        CAPTURE(centre);
        const int64_t n = s.numel(), items = s.batch * s.groups;
        const Floats x = random_floats(n, centre - 2, centre + 2), dy = random_floats(n),
                     weight = random_floats(s.channels), bias = random_floats(s.channels);
        const Doubles xd = widen(x), dyd = widen(dy), wd = widen(weight), bd = widen(bias);
        const auto& ref = reference<double>();
        const auto wide = args<double>(s, xd, affine ? &wd : nullptr, affine ? &bd : nullptr);
        Doubles y(count(n)), mean(count(items)), rstd(count(items)), dx(count(n)), dweight(count(s.channels)),
            dbias(count(s.channels));
        ref.group_norm_forward(wide, 1e-3, y.data(), mean.data(), rstd.data());
        ref.group_norm_backward(wide, mean.data(), rstd.data(), dyd.data(), dx.data(), dweight.data(),
                                dbias.data());
        const auto narrow = args<float>(s, x, affine ? &weight : nullptr, affine ? &bias : nullptr);
        const Floats mean_f(mean.begin(), mean.end()), rstd_f(rstd.begin(), rstd.end());
        each_table(
            {n, items, items, n, s.channels, s.channels, n, s.channels},
            [&](const auto& table, auto& out) {
              table.group_norm_forward(narrow, 1e-3, out[0].data(), out[1].data(), out[2].data());
              std::copy(dy.begin(), dy.end(), out[3].data());  // dx may be dy
              table.group_norm_backward(narrow, mean_f.data(), rstd_f.data(), out[3].data(), out[3].data(),
                                        out[4].data(), out[5].data());
              table.group_norm_backward(narrow, mean_f.data(), rstd_f.data(), dy.data(), out[6].data(),
                                        nullptr, nullptr);
              table.group_norm_backward(narrow, mean_f.data(), rstd_f.data(), dy.data(), nullptr,
                                        out[7].data(), nullptr);
            },
            [&](const auto& out) {
              // Far from 0 the float mean is off by its rounding, and all that follows from it by as much.
              const double scale = 32;  // the largest rstd
              const double rounding = centre == 0 ? 0 : 200 * kEps * scale;
              const double sums = (2e-6 + rounding) * (1 + std::sqrt(double(s.batch * s.pixels)));
              CHECK(excess(out[0], y, 1e-5 + rounding, 2e-6) <= 0);
              CHECK(excess(out[1], mean, 1e-7, 2 * kEps) <= 0);
              CHECK(excess(out[2], rstd, 1e-6, centre == 0 ? 2e-6 : 1e-4) <= 0);
              for (const int i : {3, 6})
                CHECK(excess(out[size_t(i)], dx, scale * (2e-5 + rounding), 1e-5) <= 0);
              for (const int i : {4, 7}) CHECK(excess(out[size_t(i)], dweight, sums * 4, 1e-5) <= 0);
              CHECK(excess(out[5], dbias, sums, 2e-6) <= 0);
            });
      }
}

TEST_CASE("spectral norm, forward and backward") {
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1},   {1, 5},    {7, 1},   {5, 7},
                                                {64, 67}, {3, 9001}, {5003, 4}};
  for (const auto& shape : shapes)
    for (const int iterations : {0, 1, 3})
      for (const bool left_first : {false, true})
        for (const double eps : {1e-12, 1e3}) {
          const int64_t rows = shape.first, cols = shape.second;
          CAPTURE(rows);
          CAPTURE(cols);
          CAPTURE(iterations);
          CAPTURE(left_first);
          CAPTURE(eps);
          const int64_t n = rows * cols;
          const Floats w = random_floats(n, 0.5, 1), dy = random_floats(n),
                       left = random_floats(rows, 0.5, 1), right = random_floats(cols, 0.5, 1);
          const Doubles wd = widen(w), dyd = widen(dy);
          Doubles l = widen(left), r = widen(right), l_now(l), r_now(r), y(wd), dw(wd);
          double sigma = 0;
          const auto& ref = reference<double>();
          ref.spectral_norm_forward({rows, cols, wd.data(), iterations, left_first, eps}, l.data(), r.data(),
                                    l_now.data(), r_now.data(), &sigma, y.data());
          ref.spectral_norm_backward(rows, cols, l.data(), r.data(), &sigma, y.data(), dyd.data(), dw.data());
          each_table(
              {rows, cols, rows, cols, 1, n, n},
              [&](const auto& table, auto& out) {
                std::copy(left.begin(), left.end(), out[0].data());
                std::copy(right.begin(), right.end(), out[1].data());
                table.spectral_norm_forward({rows, cols, w.data(), iterations, left_first, eps},
                                            out[0].data(), out[1].data(), out[2].data(), out[3].data(),
                                            out[4].data(), out[5].data());
                std::copy(dy.begin(), dy.end(), out[6].data());  // dw may be dy
                table.spectral_norm_backward(rows, cols, out[0].data(), out[1].data(), out[4].data(),
                                             out[5].data(), out[6].data(), out[6].data());
              },
              [&](const auto& out) {
                for (const size_t i : {0, 2}) CHECK(excess(out[i], l, 0, 1e-5) <= 0);
                for (const size_t i : {1, 3}) CHECK(excess(out[i], r, 0, 1e-5) <= 0);
                CHECK(excess(out[4], Doubles{sigma}, 0, 1e-5) <= 0);
                CHECK(excess(out[5], y, 0, 2e-5) <= 0);
                double largest = 1 / sigma;
                for (const double v : dw) largest = std::max(largest, std::abs(v));
                CHECK(excess(out[6], dw, 1e-4 * largest, 1e-5) <= 0);
              });
        }
}

TEST_CASE("group norm: what is not finite stays in its group") {
  for (const NormShape& s : {NormShape{3, 1, 1, 37}, NormShape{2, 9, 4, 12}})
    for (const float bad : {kNaN, kInf}) {
      CAPTURE(s.channels);
      CAPTURE(bad);
      const int64_t n = s.numel(), items = s.batch * s.groups;
      Floats x = random_floats(n);
      x[2] = bad;
      const Doubles xd = widen(x);
      Doubles y(count(n)), mean(count(items)), rstd(count(items));
      reference<double>().group_norm_forward(args<double>(s, xd, nullptr, nullptr), 1e-5, y.data(),
                                             mean.data(), rstd.data());
      CHECK(std::isnan(y[0]));
      CHECK(std::isfinite(y[y.size() - 1]));
      each_table(
          {n, items, items},
          [&](const auto& table, auto& out) {
            table.group_norm_forward(args<float>(s, x, nullptr, nullptr), 1e-5, out[0].data(), out[1].data(),
                                     out[2].data());
          },
          [&](const auto& out) { CHECK(excess(out[0], y, 1e-5, 1e-5) <= 0); });
    }
}

TEST_CASE("masked softmax: every form of mask, rows with nothing left") {
  struct Form {
    bool mask, per_batch, per_head, per_row, causal;
  };
  const Form forms[] = {{false, false, false, false, false}, {false, false, false, false, true},
                        {true, true, false, false, false},   {true, false, false, true, false},
                        {true, true, true, true, true},      {true, false, true, false, true}};
  for (const auto& sides : {std::pair{1, 1}, {5, 3}, {7, 40}, {33, 33}, {4, 129}})
    for (const Form& f : forms) {
      const int64_t rows = sides.first, cols = sides.second;
      const int64_t batch = 3, heads = 2, n = batch * heads * rows * cols;
      CAPTURE(rows);
      CAPTURE(cols);
      CAPTURE(f.mask);
      CAPTURE(f.causal);
      CAPTURE(f.per_row);
      Floats x = random_floats(n, -5, 5);
      const int64_t row = f.per_row ? cols : 0, head = f.per_head ? (f.per_row ? rows : 1) * cols : 0,
                    image = f.per_batch ? (f.per_head ? heads : 1) * (f.per_row ? rows : 1) * cols : 0;
      Floats mask = random_floats(n);
      for (float& m : mask)
        if (pick(0, 2) == 0) m = -kInf;
      for (int64_t c = 0; c < cols; ++c) mask[count(c)] = -kInf;  // nothing left in the first row
      if (f.mask) x[0] = kNaN;                                    // which is not looked at
      const auto fill = [&](auto& a) {
        a.batch = batch, a.heads = heads, a.rows = rows, a.cols = cols, a.causal = f.causal;
        a.batch_stride = image, a.head_stride = head, a.row_stride = row, a.scale = 0.5;
      };
      const Doubles xd = widen(x), md = widen(mask);
      MaskedSoftmaxArgs<double> wide;
      fill(wide), wide.x = xd.data(), wide.mask = f.mask ? md.data() : nullptr;
      Doubles y(count(n));
      reference<double>().masked_softmax(wide, y.data());
      if (f.mask) CHECK(y[0] == 0);
      each_table(
          {n, n},
          [&](const auto& table, auto& out) {
            MaskedSoftmaxArgs<float> a;
            fill(a), a.x = x.data(), a.mask = f.mask ? mask.data() : nullptr;
            table.masked_softmax(a, out[0].data());
            std::copy(x.begin(), x.end(), out[1].data());  // y may be x
            a.x = out[1].data();
            table.masked_softmax(a, out[1].data());
          },
          [&](const auto& out) {
            CHECK(excess(out[0], y, 1e-7, 2e-6) <= 0);
            CHECK(excess(out[1], y, 1e-7, 2e-6) <= 0);
          });
    }
}

TEST_CASE("masked softmax: a NaN that is looked at makes its row NaN") {
  for (const float other : {1.0f, -kInf}) {
    Floats x(20, other);
    x[13] = kNaN;
    MaskedSoftmaxArgs<float> a;
    a.rows = 2, a.cols = 10, a.x = x.data();
    each_table(
        {20}, [&](const auto& table, auto& out) { table.masked_softmax(a, out[0].data()); },
        [&](const auto& out) {
          CHECK(out[0][0] == doctest::Approx(other == 1 ? 0.1 : 0));
          for (int64_t i = 10; i < 20; ++i) CHECK(std::isnan(out[0][i]));
        });
  }
}
