// Group and spectral norm and the masked softmax on the GPU against the reference in double.
#include <cmath>
#include <vector>

#include "support/device_arrays.h"
#include "weft/kernels/cuda.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

struct NormShape {
  int64_t batch, pixels, groups, channels;
  int64_t numel() const { return batch * pixels * channels; }
};
// Rows of a warp and of a block, wide or not; groups of a sector and more; narrow ones, several blocks of
// them.
const NormShape kShapes[] = {{1, 1, 1, 1},    {5, 1, 1, 24}, {9, 1, 1, 37},   {70, 1, 1, 64},
                             {2, 1, 1, 5000}, {3, 1, 4, 32}, {2, 49, 4, 64},  {3, 9, 1, 16},
                             {2, 300, 1, 24}, {2, 20, 8, 8}, {3, 17, 70, 70}, {2, 11, 9, 63}};

template <class F>
void for_shapes(F&& f) {
  for (const NormShape& s : kShapes) {
    CAPTURE(s.batch);
    CAPTURE(s.pixels);
    CAPTURE(s.groups);
    CAPTURE(s.channels);
    f(s, 0);
  }
  f(NormShape{3, 1, 1, 64}, 1);
  f(NormShape{2, 9, 2, 64}, 1);
}

template <class T>
GroupNormArgs<T> args(const NormShape& s, const T* x, const Wide<T>* weight, const Wide<T>* bias) {
  GroupNormArgs<T> a;
  a.batch = s.batch, a.pixels = s.pixels, a.groups = s.groups, a.channels = s.channels;
  a.x = x, a.weight = weight, a.bias = bias;
  return a;
}

}  // namespace

TEST_CASE_TEMPLATE("group norm, forward and backward", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_shapes([&](const NormShape& s, int64_t skip) {
    const int64_t n = s.numel(), items = s.batch * s.groups;
    const std::vector<T> x = random.normal<T>(n, 3, 2), dy = random.normal<T>(n);
    const std::vector<float> weight = random.normal<float>(s.channels, 1),
                             bias = random.normal<float>(s.channels);
    const std::vector<double> xd = to_double(x), dyd = to_double(dy), wd = to_double(weight),
                              bd = to_double(bias);
    for (const bool affine : {true, false}) {
      CAPTURE(affine);
      std::vector<double> y(x.size()), mean(static_cast<size_t>(items)), rstd(mean), dx(x.size()),
          dweight(weight.size()), dbias(weight.size());
      const auto oracle =
          args<double>(s, xd.data(), affine ? wd.data() : nullptr, affine ? bd.data() : nullptr);
      // eps large enough that groups of one element are not a matter of rounding.
      reference<double>().group_norm_forward(oracle, 0.5, y.data(), mean.data(), rstd.data());
      reference<double>().group_norm_backward(oracle, mean.data(), rstd.data(), dyd.data(), dx.data(),
                                              dweight.data(), dbias.data());
      DeviceArray<T> x_d(x, skip), dy_d(dy, skip), y_d(n, skip), dx_d(n, skip);
      DeviceArray<float> weight_d(weight, skip), bias_d(bias, skip), mean_d(items), rstd_d(items),
          dweight_d(s.channels), dbias_d(s.channels), again(s.channels);
      const auto a =
          args<T>(s, x_d.data(), affine ? weight_d.data() : nullptr, affine ? bias_d.data() : nullptr);
      const auto& table = cuda::table<T>();
      table.group_norm_forward(a, 0.5, y_d.data(), mean_d.data(), rstd_d.data());
      CHECK(distance(y_d.host(), y) < kTolerance<T>);
      CHECK(distance(mean_d.host(), mean) < 1e-5);
      CHECK(distance(rstd_d.host(), rstd) < 1e-5);
      table.group_norm_backward(a, mean_d.data(), rstd_d.data(), dy_d.data(), dx_d.data(), dweight_d.data(),
                                dbias_d.data());
      CHECK(distance(dx_d.host(), dx) < kTolerance<T>);
      CHECK(distance(dweight_d.host(), dweight) < 1e-4);
      CHECK(distance(dbias_d.host(), dbias) < 1e-4);
      table.group_norm_backward(a, mean_d.data(), rstd_d.data(), dy_d.data(), nullptr, again.data(), nullptr);
      CHECK(same_bits(again.host(), dweight_d.host()));
      table.group_norm_backward(a, mean_d.data(), rstd_d.data(), dy_d.data(), dy_d.data(), nullptr, nullptr);
      CHECK(same_bits(dy_d.host(), dx_d.host()));
    }
  });
}

TEST_CASE_TEMPLATE("spectral norm, forward and backward", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  // Wide loads and narrow ones, rows of a warp and of a block, and what is cut into slices.
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1},    {1, 5},    {7, 1},     {5, 7},
                                                {64, 64},  {37, 72},  {12, 4104}, {3, 4099},
                                                {5003, 3}, {4201, 8}, {2, 9001}};
  for (const auto& shape : shapes)
    for (const int iterations : {0, 1, 3})
      for (const bool left_first : {false, true})
        for (const double eps : {1e-12, 30.0}) {
          const int64_t rows = shape.first, cols = shape.second;
          CAPTURE(rows);
          CAPTURE(cols);
          CAPTURE(iterations);
          CAPTURE(left_first);
          CAPTURE(eps);
          if (eps > 1 && (iterations != 1 || rows < 5 || rows * cols > 5000)) continue;
          const int64_t n = rows * cols, skip = rows % 2;
          const size_t r = size_t(rows), c = size_t(cols);
          // All positive, so that sigma is not near 0.
          const double l_size = 1 / std::sqrt(double(rows)), r_size = 1 / std::sqrt(double(cols));
          const std::vector<T> w = random.uniform<T>(n, 0.1, 1.9), dy = random.normal<T>(n),
                               left = random.uniform<T>(rows, 0.5 * l_size, 1.5 * l_size),
                               right = random.uniform<T>(cols, 0.5 * r_size, 1.5 * r_size);
          const std::vector<double> wd = to_double(w), dyd = to_double(dy);
          std::vector<double> l = to_double(left), rt = to_double(right), l_now(r), r_now(c), y(w.size()),
                              dw(w.size());
          double sigma = 0;
          reference<double>().spectral_norm_forward({rows, cols, wd.data(), iterations, left_first, eps},
                                                    l.data(), rt.data(), l_now.data(), r_now.data(), &sigma,
                                                    y.data());
          DeviceArray<T> w_d(w, skip), dy_d(dy, skip), l_d(left), r_d(right), l_now_d(rows), r_now_d(cols),
              y_d(n, skip), dw_d(n, skip);
          DeviceArray<float> sigma_d(1);
          const auto& table = cuda::table<T>();
          table.spectral_norm_forward({rows, cols, w_d.data(), iterations, left_first, eps}, l_d.data(),
                                      r_d.data(), l_now_d.data(), r_now_d.data(), sigma_d.data(), y_d.data());
          const auto scaled = [](std::vector<double> v, double by) {
            for (double& x : v) x *= by;
            return v;
          };
          const double long_as = eps > 1 ? eps : 1;
          const auto close = [&](const std::vector<T>& ours, const std::vector<double>& theirs, double by) {
            return distance(scaled(to_double(ours), by), scaled(theirs, by)) < kTolerance<T>;
          };
          CHECK(close(l_d.host(), l, long_as * std::sqrt(double(rows))));
          CHECK(close(r_d.host(), rt, long_as * std::sqrt(double(cols))));
          CHECK(same_bits(l_now_d.host(), l_d.host()));
          CHECK(same_bits(r_now_d.host(), r_d.host()));
          if (iterations == 0) CHECK((same_bits(l_d.host(), left) && same_bits(r_d.host(), right)));
          CHECK(double(sigma_d.host()[0]) == doctest::Approx(sigma).epsilon(kTolerance<T>));
          CHECK(close(y_d.host(), y, sigma));

          // From the device's own results, as backward has them.
          const std::vector<double> ld = to_double(l_now_d.host()), rd = to_double(r_now_d.host()),
                                    yd = to_double(y_d.host());
          const double sd = double(sigma_d.host()[0]);
          reference<double>().spectral_norm_backward(rows, cols, ld.data(), rd.data(), &sd, yd.data(),
                                                     dyd.data(), dw.data());
          table.spectral_norm_backward(rows, cols, l_now_d.data(), r_now_d.data(), sigma_d.data(), y_d.data(),
                                       dy_d.data(), dw_d.data());
          CHECK(distance(scaled(to_double(dw_d.host()), sd), scaled(dw, sd)) < kTolerance<T>);
          table.spectral_norm_backward(rows, cols, l_now_d.data(), r_now_d.data(), sigma_d.data(), y_d.data(),
                                       dy_d.data(), dy_d.data());
          CHECK(same_bits(dy_d.host(), dw_d.host()));
        }
}

TEST_CASE_TEMPLATE("masked softmax", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  struct Form {
    bool mask, per_batch, per_head, per_row, causal;
  };
  const Form forms[] = {{false, false, false, false, false},
                        {false, false, false, false, true},
                        {true, true, false, false, false},
                        {true, false, false, true, false},
                        {true, true, true, true, true}};
  for (const auto& sides : {std::pair{1, 1}, {5, 3}, {9, 40}, {33, 33}, {2, 4100}, {3, 4096}})
    for (const Form& f : forms) {
      const int64_t rows = sides.first, cols = sides.second;
      const int64_t batch = cols > 1000 ? 1 : 3, heads = 2, n = batch * heads * rows * cols;
      CAPTURE(rows);
      CAPTURE(cols);
      CAPTURE(f.mask);
      CAPTURE(f.causal);
      CAPTURE(f.per_row);
      std::vector<T> x = random.normal<T>(n, 0, 3);
      std::vector<float> mask = random.normal<float>(n);
      for (float& m : mask)
        if (random.below(3) == 0) m = -INFINITY;
      for (int64_t c = 0; c < cols; ++c) mask[size_t(c)] = -INFINITY;  // nothing left in the first row
      if (f.mask) x[0] = T(double(NAN));                               // which is not looked at
      x[size_t(n - 1)] = T(double(NAN));
      const auto fill = [&](auto& a) {
        a.batch = batch, a.heads = heads, a.rows = rows, a.cols = cols, a.causal = f.causal, a.scale = 0.5;
        a.row_stride = f.per_row ? cols : 0;
        a.head_stride = f.per_head ? (f.per_row ? rows : 1) * cols : 0;
        a.batch_stride = f.per_batch ? (f.per_head ? heads : 1) * (f.per_row ? rows : 1) * cols : 0;
      };
      const std::vector<double> xd = to_double(x), md = to_double(mask);
      MaskedSoftmaxArgs<double> oracle;
      fill(oracle), oracle.x = xd.data(), oracle.mask = f.mask ? md.data() : nullptr;
      std::vector<double> y(x.size());
      reference<double>().masked_softmax(oracle, y.data());
      DeviceArray<T> x_d(x), y_d(n);
      DeviceArray<float> mask_d(mask);
      MaskedSoftmaxArgs<T> a;
      fill(a), a.x = x_d.data(), a.mask = f.mask ? mask_d.data() : nullptr;
      cuda::table<T>().masked_softmax(a, y_d.data());
      CHECK(distance(y_d.host(), y) < kTolerance<T>);
      cuda::table<T>().masked_softmax(a, x_d.data());
      CHECK(same_bits(x_d.host(), y_d.host()));
    }
}
