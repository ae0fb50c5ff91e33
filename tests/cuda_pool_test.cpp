// Pooling on the GPU against the reference in double.
#include <cmath>
#include <vector>

#include "support/device_arrays.h"
#include "weft/kernels/cuda.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

struct Window {
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
  bool ceil = false;
};
// The kinds that have kernels of their own, and others: overlapping, apart, not square, hanging over.
const std::vector<Window> kWindows = {
    {3, 3, 2, 2, 1, 1},       {2, 2, 2, 2, 0, 0},       {3, 3, 2, 2, 1, 1, true},
    {2, 2, 2, 2, 0, 0, true}, {3, 3, 1, 1, 1, 1},       {2, 3, 3, 1, 1, 0},
    {1, 1, 2, 2, 0, 0},       {5, 2, 2, 3, 2, 1, true}, {4, 4, 1, 2, 2, 2}};
struct Image {
  int64_t batch, h, w, channels;
};
const std::vector<Image> kImages = {{1, 5, 7, 8},  {3, 8, 8, 24}, {2, 6, 9, 3},
                                    {1, 11, 6, 1}, {2, 7, 5, 16}, {1, 4, 40, 64}};

/// One output size, as PyTorch computes it.
int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, bool ceil) {
  const int64_t room = in + 2 * pad - kernel;
  int64_t out = (room + (ceil ? stride - 1 : 0)) / stride + 1;
  if (ceil && (out - 1) * stride >= in + pad) --out;  // a window is to begin inside
  return out;
}
Pool2dParams pool_params(const Image& image, const Window& win) {
  Pool2dParams p;
  p.batch = image.batch, p.in_h = image.h, p.in_w = image.w, p.channels = image.channels;
  p.kernel_h = win.kernel_h, p.kernel_w = win.kernel_w, p.stride_h = win.stride_h, p.stride_w = win.stride_w;
  p.pad_h = win.pad_h, p.pad_w = win.pad_w;
  p.out_h = out_size(image.h, win.kernel_h, win.stride_h, win.pad_h, win.ceil);
  p.out_w = out_size(image.w, win.kernel_w, win.stride_w, win.pad_w, win.ceil);
  return p;
}
Pool2dParams whole(const Image& image, int64_t more = 0) {
  Pool2dParams p = pool_params(image, {image.h, image.w, 1, 1, 0, 0});
  p.kernel_h += more;  // hangs over
  return p;
}
int64_t in_size(const Pool2dParams& p) { return p.batch * p.in_h * p.in_w * p.channels; }
int64_t out_size(const Pool2dParams& p) { return p.batch * p.out_h * p.out_w * p.channels; }

template <class F>
void for_cases(F&& f) {
  for (const Image& image : kImages) {
    for (const Window& win : kWindows) {
      const Pool2dParams p = pool_params(image, win);
      if (p.out_h < 1 || p.out_w < 1) continue;
      f(p, 0);
    }
    f(whole(image), 0);
    f(whole(image, 2), 0);
  }
  f(pool_params({2, 8, 8, 16}, kWindows[0]), 1);
  f(pool_params({2, 8, 8, 16}, kWindows[1]), 1);
  f(whole({2, 8, 8, 16}), 1);
  f(whole({3, 3, 3, 400}), 0);  // more channels than a block takes
  f(whole({1, 40, 30, 8}), 0);
}

#define CAPTURE_CASE(p) \
  CAPTURE(p.batch);     \
  CAPTURE(p.in_h);      \
  CAPTURE(p.in_w);      \
  CAPTURE(p.channels);  \
  CAPTURE(p.kernel_h);  \
  CAPTURE(p.kernel_w);  \
  CAPTURE(p.stride_h);  \
  CAPTURE(p.stride_w);  \
  CAPTURE(p.pad_h);     \
  CAPTURE(p.pad_w)

template <class T>
void expect_max(const Pool2dParams& p, const std::vector<T>& x, int64_t skip) {
  std::vector<double> y(size_t(out_size(p)));
  std::vector<int32_t> index(size_t(out_size(p)));
  reference<double>().max_pool2d_forward(p, to_double(x).data(), y.data(), index.data());
  DeviceArray<T> x_d(x, skip), y_d(out_size(p), skip);
  DeviceArray<int32_t> index_d(out_size(p), skip);
  cuda::table<T>().max_pool2d_forward(p, x_d.data(), y_d.data(), index_d.data());
  CHECK(distance(y_d.host(), y) == 0);
  CHECK(index_d.host() == index);
}

}  // namespace

TEST_CASE_TEMPLATE("maximum", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_cases([&](const Pool2dParams& p, int64_t skip) {
    CAPTURE_CASE(p);
    std::vector<T> x = random.normal<T>(in_size(p));
    expect_max(p, x, skip);
    // Equal values, where the first one wins, and NaN and infinities.
    const double special[] = {std::nan(""), INFINITY, -INFINITY, 0, 1, 1, 1, 1};
    for (T& v : x) v = T(special[random.below(8)]);
    expect_max(p, x, skip);
    expect_max(p, std::vector<T>(x.size(), T(-INFINITY)), skip);
  });
}

TEST_CASE_TEMPLATE("maximum, backward", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_cases([&](const Pool2dParams& p, int64_t skip) {
    CAPTURE_CASE(p);
    const std::vector<T> x = random.normal<T>(in_size(p)), dy = random.normal<T>(out_size(p));
    std::vector<double> y(dy.size()), dx(x.size());
    std::vector<int32_t> index(dy.size());
    reference<double>().max_pool2d_forward(p, to_double(x).data(), y.data(), index.data());
    reference<double>().max_pool2d_backward(p, to_double(dy).data(), index.data(), dx.data());
    DeviceArray<T> dy_d(dy, skip), dx_d(in_size(p), skip);
    DeviceArray<int32_t> index_d(index, skip);
    cuda::table<T>().max_pool2d_backward(p, dy_d.data(), index_d.data(), dx_d.data());
    CHECK(distance(dx_d.host(), dx) < kTolerance<T>);
  });
}

TEST_CASE_TEMPLATE("average", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_cases([&](Pool2dParams p, int64_t skip) {
    for (const bool count_pad : {true, false}) {
      CAPTURE_CASE(p);
      CAPTURE(count_pad);
      p.count_include_pad = count_pad;
      std::vector<T> x = random.normal<T>(in_size(p), 0.3);
      for (const bool special : {false, true}) {
        if (special) x[size_t(random.below(in_size(p)))] = T(INFINITY), x[0] = T(std::nan(""));
        std::vector<double> y(size_t(out_size(p)));
        reference<double>().avg_pool2d_forward(p, to_double(x).data(), y.data());
        DeviceArray<T> x_d(x, skip), y_d(out_size(p), skip);
        cuda::table<T>().avg_pool2d_forward(p, x_d.data(), y_d.data());
        CHECK(distance(y_d.host(), y) < kTolerance<T>);
      }
    }
  });
}

TEST_CASE_TEMPLATE("average, backward", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for_cases([&](Pool2dParams p, int64_t skip) {
    for (const bool count_pad : {true, false}) {
      CAPTURE_CASE(p);
      CAPTURE(count_pad);
      p.count_include_pad = count_pad;
      // Scaled, so that the gradients are around 1.
      const std::vector<T> dy =
          random.normal<T>(out_size(p), 0, double(std::min(p.kernel_h, p.in_h) * p.in_w));
      std::vector<double> dx(size_t(in_size(p)));
      reference<double>().avg_pool2d_backward(p, to_double(dy).data(), dx.data());
      DeviceArray<T> dy_d(dy, skip), dx_d(in_size(p), skip);
      cuda::table<T>().avg_pool2d_backward(p, dy_d.data(), dx_d.data());
      CHECK(distance(dx_d.host(), dx) < kTolerance<T>);
      const std::vector<T> start = random.normal<T>(in_size(p));
      for (size_t i = 0; i < dx.size(); ++i) dx[i] += double(start[i]);
      DeviceArray<T> sum_d(start, skip);
      cuda::table<T>().avg_pool2d_backward_add(p, dy_d.data(), sum_d.data());
      CHECK(distance(sum_d.host(), dx) < kTolerance<T>);
      if (p.kernel_h != 2 || p.kernel_w != 2) continue;
      // To the bit what the kernel for any window makes, which memory of less alignment is left to.
      DeviceArray<T> dy_any(dy, 1), dx_any(in_size(p), 1), sum_any(start, 1);
      cuda::table<T>().avg_pool2d_backward(p, dy_any.data(), dx_any.data());
      CHECK(same_bits(dx_any.host(), dx_d.host()));
      cuda::table<T>().avg_pool2d_backward_add(p, dy_any.data(), sum_any.data());
      CHECK(same_bits(sum_any.host(), sum_d.host()));
    }
  });
}

TEST_CASE_TEMPLATE("the activation of a sum and its average", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  const auto& k = cuda::table<T>();
  for (const auto& sizes : {std::array<int64_t, 3>{1, 1, 8}, {6, 4, 16}, {5, 7, 24}, {9, 2, 3}, {12, 13, 64}})
    for (const Activation act :
         {Activation::identity, Activation::relu, Activation::mish, Activation::silu, Activation::gelu}) {
      const int64_t h = sizes[0], w = sizes[1], channels = sizes[2];
      CAPTURE(h);
      CAPTURE(channels);
      CAPTURE(activation_name(act));
      Pool2dParams p;
      p.batch = 3, p.in_h = h, p.in_w = w, p.channels = channels, p.out_h = (h + 1) / 2,
      p.out_w = (w + 1) / 2;
      const int64_t n = in_size(p);
      std::vector<T> a = random.normal<T>(n);
      const std::vector<T> b = random.normal<T>(n, 0.3), dy = random.normal<T>(n),
                           dpooled = random.normal<T>(out_size(p), 0, 4);
      for (size_t i = 0; i < a.size(); ++i)  // next to 0 relu's slope is a matter of rounding
        if (std::abs(float(a[i]) + float(b[i])) < 1e-3f) a[i] = T(float(a[i]) + 1);
      std::vector<double> z = to_double(a), y = z, spread = z, g = z, pooled = to_double(dpooled);
      for (size_t i = 0; i < z.size(); ++i) z[i] += double(b[i]);
      const double param = activation_default_param(act);
      reference<double>().activation(act, param, n, z.data(), y.data());
      reference<double>().avg_pool2d_forward(p, y.data(), pooled.data());
      reference<double>().avg_pool2d_backward(p, to_double(dpooled).data(), spread.data());
      for (size_t i = 0; i < z.size(); ++i) spread[i] += double(dy[i]);
      reference<double>().activation_backward(act, param, n, z.data(), spread.data(), g.data());
      for (const int64_t skip : {0, 1}) {
        DeviceArray<T> a_d(a, skip), b_d(b), y_d(n), pooled_d(out_size(p)), dy_d(dy, skip),
            dpooled_d(dpooled), g_d(n, skip);
        k.add_activation_pool(act, float(param), p, a_d.data(), b_d.data(), y_d.data(), pooled_d.data());
        CHECK(distance(y_d.host(), y) < kTolerance<T>);
        CHECK(distance(pooled_d.host(), pooled) < kTolerance<T>);
        k.add_activation_pool_backward(act, float(param), p, a_d.data(), b_d.data(), dy_d.data(),
                                       dpooled_d.data(), g_d.data());
        CHECK(distance(g_d.host(), g) < kTolerance<T>);
        const std::vector<T> first = g_d.host();
        k.add_activation_pool_backward(act, float(param), p, a_d.data(), b_d.data(), dy_d.data(),
                                       dpooled_d.data(), dy_d.data());
        CHECK(same_bits(dy_d.host(), first));
      }
    }
}
