// Matrix products and convolutions of the CUDA table against the reference in double on the same rounded
// inputs: cuBLASLt and cuDNN on a GPU, what stands in for them on the emulated device; and the kernels beside
// them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/cuda_switches.h"
#include "weft/kernels/convolution.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/conv_patches.h"
#include "weft/kernels/cuda/convolution_kernels.h"
#include "weft/kernels/cuda/plain_product.h"
#include "weft/kernels/cuda/plan_cache.h"
#include "weft/kernels/cuda/timing.h"
#include "weft/kernels/precision.h"

namespace fs = std::filesystem;
using namespace weft;
using namespace weft::kernels;

namespace {

std::mt19937_64& generator() {
  static std::mt19937_64 made = [] {
    const auto seed = std::random_device()();
    std::printf("seed %u\n", seed);
    return std::mt19937_64(seed);
  }();
  return made;
}
int64_t any_of(std::initializer_list<int64_t> values) {
  return values.begin()[generator()() % values.size()];
}

/// An array on the device that starts `shift` elements behind an aligned address.
template <class T>
class Array {
 public:
  explicit Array(std::vector<T> values, int64_t shift = 0) : size_(values.size()) {
    memory_ = cuda::allocate(int64_t(size_ + size_t(shift) + 1) * int64_t(sizeof(T)));
    REQUIRE(memory_ != nullptr);
    data_ = static_cast<T*>(memory_) + shift;
    cuda::upload(data_, values.data(), bytes());
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cuda::release(memory_); }

  T* data() const { return data_; }
  std::vector<double> values() const {
    std::vector<T> there(size_);
    cuda::download(there.data(), data_, bytes());
    std::vector<double> wide(size_);
    for (size_t i = 0; i < size_; ++i) wide[i] = double(there[i]);
    return wide;
  }

 private:
  int64_t bytes() const { return int64_t(size_ * sizeof(T)); }
  size_t size_;
  void* memory_;
  T* data_;
};

template <class T>
std::vector<T> uniform(int64_t n) {
  std::uniform_real_distribution<float> draw(-1, 1);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& v : values) v = T(draw(generator()));
  return values;
}
template <class T>
std::vector<T> poison(int64_t n) {
  return std::vector<T>(static_cast<size_t>(n), T(std::numeric_limits<float>::quiet_NaN()));
}
template <class T>
std::vector<double> wide(const std::vector<T>& values) {
  std::vector<double> w(values.size());
  for (size_t i = 0; i < values.size(); ++i) w[i] = double(values[i]);
  return w;
}

/// |a - b| / |b|, in L2; infinite where there is NaN.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  const double d = std::sqrt(difference / std::max(norm, 1e-30));
  return std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
}
template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-5 : 1e-2;

std::string text(const Conv2dParams& p) {
  std::string s;
  for (const int64_t v : {p.batch, p.in_h, p.in_w, p.in_c, p.out_c, p.kernel_h, p.kernel_w, p.stride_h,
                          p.stride_w, p.pad_h, p.pad_w, p.dilation_h, p.dilation_w, p.groups})
    s += std::to_string(v) + " ";
  return s;
}

/// A 3x3 convolution of each channel for itself, with so many filters for each.
Conv2dParams depthwise(int64_t channels, int64_t multiplier, int64_t h, int64_t w, int64_t stride = 1) {
  return {.batch = 2,
          .in_h = h,
          .in_w = w,
          .in_c = channels,
          .out_c = channels * multiplier,
          .kernel_h = 3,
          .kernel_w = 3,
          .stride_h = stride,
          .stride_w = stride,
          .pad_h = 1,
          .pad_w = 1,
          .groups = channels};
}

std::vector<Conv2dParams> shapes() {
  std::vector<Conv2dParams> found{
      {.batch = 2,
       .in_h = 16,
       .in_w = 16,
       .in_c = 32,
       .out_c = 64,
       .kernel_h = 3,
       .kernel_w = 3,
       .pad_h = 1,
       .pad_w = 1},
      {.batch = 3, .in_h = 8, .in_w = 8, .in_c = 64, .out_c = 24},  // a matrix product
      {.batch = 1, .in_h = 1, .in_w = 1, .in_c = 3, .out_c = 10},
      {.batch = 2,
       .in_h = 15,
       .in_w = 17,
       .in_c = 3,
       .out_c = 32,
       .kernel_h = 3,
       .kernel_w = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1},
      {.batch = 3,
       .in_h = 9,
       .in_w = 7,
       .in_c = 24,
       .out_c = 24,
       .kernel_h = 3,
       .kernel_w = 3,
       .pad_h = 1,
       .pad_w = 1,
       .groups = 24},
      {.batch = 3,
       .in_h = 13,
       .in_w = 11,
       .in_c = 6,
       .out_c = 9,
       .kernel_h = 3,
       .kernel_w = 2,
       .stride_h = 2,
       .pad_h = 1,
       .pad_w = 2,
       .dilation_h = 2,
       .groups = 3},
      {.batch = 1, .in_h = 9, .in_w = 9, .in_c = 1, .out_c = 1, .kernel_h = 5, .kernel_w = 5},
      // The depthwise networks: their blocks, and the first convolution of their stem.
      depthwise(64, 2, 8, 8),
      depthwise(64, 6, 9, 7),
      depthwise(128, 4, 6, 5),
      depthwise(256, 2, 4, 4),
      depthwise(256, 6, 5, 3),
      depthwise(3, 6, 16, 12, 2),
      depthwise(3, 4, 15, 17, 2),
  };
  while (found.size() < 21) {
    const int64_t groups = any_of({1, 1, 1, 2, 4});
    const Conv2dParams p{.batch = any_of({1, 2, 3}),
                         .in_h = any_of({1, 5, 8, 11}),
                         .in_w = any_of({1, 4, 7, 13}),
                         .in_c = groups * any_of({1, 3, 4, 8, 24}),
                         .out_c = groups * any_of({1, 5, 8, 10, 16}),
                         .kernel_h = any_of({1, 2, 3}),
                         .kernel_w = any_of({1, 3, 5}),
                         .stride_h = any_of({1, 2}),
                         .stride_w = any_of({1, 2, 3}),
                         .pad_h = any_of({0, 1, 2}),
                         .pad_w = any_of({0, 1, 2}),
                         .dilation_h = any_of({1, 2}),
                         .dilation_w = any_of({1, 2}),
                         .groups = groups};
    const int64_t room_h = p.in_h + 2 * p.pad_h - p.dilation_h * (p.kernel_h - 1),
                  room_w = p.in_w + 2 * p.pad_w - p.dilation_w * (p.kernel_w - 1);
    if (room_h >= 1 && room_w >= 1) found.push_back(p);
  }
  return found;
}

struct Sizes {
  int64_t x, w, y;
  explicit Sizes(const Conv2dParams& p)
      : x(p.batch * p.in_h * p.in_w * p.in_c),
        w(p.out_c * p.kernel_h * p.kernel_w * (p.in_c / p.groups)),
        y(p.batch * p.out_h() * p.out_w() * p.out_c) {}
};

/// x, w, dy of a convolution, the results by the reference, and outputs full of NaN on the device.
template <class T>
struct Problem {
  Conv2dParams p;
  Sizes n{p};
  std::vector<T> x = uniform<T>(n.x), w = uniform<T>(n.w), dy = uniform<T>(n.y), bias = uniform<T>(p.out_c);
  Array<T> X, W, DY, B, Y, DX, DW;

  explicit Problem(const Conv2dParams& params, int64_t shift = 0)
      : p(params),
        X(x, shift),
        W(w, shift),
        DY(dy, shift),
        B(bias, shift),
        Y(poison<T>(n.y), shift),
        DX(poison<T>(n.x), shift),
        DW(poison<T>(n.w), shift) {}

  std::vector<double> y(bool with_bias) const {
    std::vector<double> out(static_cast<size_t>(n.y));
    reference<double>().conv2d_forward(p, wide(x).data(), wide(w).data(),
                                       with_bias ? wide(bias).data() : nullptr, out.data(), nullptr);
    return out;
  }
  std::vector<double> dx() const {
    std::vector<double> out(static_cast<size_t>(n.x));
    reference<double>().conv2d_backward_input(p, wide(dy).data(), wide(w).data(), out.data(), nullptr);
    return out;
  }
  std::vector<double> dw() const {
    std::vector<double> out(static_cast<size_t>(n.w));
    reference<double>().conv2d_backward_weight(p, wide(x).data(), wide(dy).data(), out.data(), nullptr);
    return out;
  }
};

/// The three passes by the table, with the workspace that they ask for.
template <class T>
void run(const Problem<T>& c, bool with_bias) {
  const auto& k = cuda::table<T>();
  int64_t bytes = 256;
  for (const ConvPass pass : {ConvPass::forward, ConvPass::backward_input, ConvPass::backward_weight})
    bytes = std::max(bytes, k.conv2d_workspace(c.p, pass));
  const Array<float> workspace(poison<float>(bytes / 4 + 1));
  k.conv2d_forward(c.p, c.X.data(), c.W.data(), with_bias ? c.B.data() : nullptr, c.Y.data(),
                   workspace.data());
  k.conv2d_backward_input(c.p, c.DY.data(), c.W.data(), c.DX.data(), workspace.data());
  k.conv2d_backward_weight(c.p, c.X.data(), c.DY.data(), c.DW.data(), workspace.data());
  cuda::synchronize();  // for the workspace
}

}  // namespace

TEST_CASE_TEMPLATE("convolutions are the reference's", T, float, bf16, f16) {
  const test::ExactFloat exact;
  for (const Conv2dParams& p : shapes())
    for (const int64_t shift : {0, 1}) {
      INFO(text(p), "shift ", shift);
      const Problem<T> c(p, shift);
      run(c, shift == 1);
      CHECK(distance(c.Y.values(), c.y(shift == 1)) < kTolerance<T>);
      CHECK(distance(c.DX.values(), c.dx()) < kTolerance<T>);
      CHECK(distance(c.DW.values(), c.dw()) < kTolerance<T>);
      CHECK(cuda::table<T>().conv2d_algorithm(p, ConvPass::forward) == ConvAlgorithm::direct);
    }
}

TEST_CASE_TEMPLATE("the gradient of the input is added to what is there", T, float, bf16, f16) {
  const test::ExactFloat exact;
  const auto& k = cuda::table<T>();
  bool fixed = false;
  SUBCASE("by the fastest way") {}
  SUBCASE("where nothing is measured") { fixed = true; }
  cuda::set_deterministic(fixed);
  int in_one = 0;
  for (Conv2dParams p : shapes())
    for (const int64_t filter : {p.kernel_h, int64_t{1}})  // also as matrix products
      for (const int64_t shift : {0, 1}) {
        if (filter == 1)
          p.kernel_h = p.kernel_w = p.stride_h = p.stride_w = p.dilation_h = p.dilation_w = p.groups = 1,
          p.pad_h = p.pad_w = 0;
        INFO(text(p), "shift ", shift);
        const Problem<T> c(p, shift);
        const std::vector<T> start = uniform<T>(c.n.x);
        std::vector<double> once = c.dx(), twice = once, there = wide(start);
        for (size_t i = 0; i < once.size(); ++i) once[i] += there[i], twice[i] += once[i];
        const Array<T> sum(start, shift);
        if (!k.conv2d_backward_input_add(p, c.DY.data(), c.W.data(), sum.data(), nullptr)) {
          CHECK(sum.values() == there);  // it has left it alone
          CHECK((filter != 1 || shift != 0));
          continue;
        }
        ++in_one;
        CHECK(distance(sum.values(), once) < kTolerance<T>);
        CHECK(k.conv2d_backward_input_add(p, c.DY.data(), c.W.data(), sum.data(), nullptr));
        CHECK(distance(sum.values(), twice) < kTolerance<T>);
        // The choice to add is not taken for one to overwrite.
        k.conv2d_backward_input(p, c.DY.data(), c.W.data(), c.DX.data(), nullptr);
        CHECK(distance(c.DX.values(), c.dx()) < kTolerance<T>);
      }
  CHECK(in_one > 0);
  cuda::set_deterministic(false);
}

TEST_CASE("TF32 keeps three digits") {
  const Conv2dParams p{
      .batch = 2, .in_h = 16, .in_w = 16, .in_c = 32, .out_c = 64, .kernel_h = 3, .kernel_w = 3};
  const Problem<float> c(p);
  REQUIRE(float32_matmul_precision() == MatmulPrecision::high);
  run(c, false);
  // Where digits are cut off and not rounded, each operand is 2^-11 ln 2 too small in the mean, and products
  // are 7e-4 too small.
  CHECK(distance(c.Y.values(), c.y(false)) < 1e-3);
  CHECK(distance(c.DX.values(), c.dx()) < 1e-3);
  CHECK(distance(c.DW.values(), c.dw()) < 1e-3);
}

TEST_CASE_TEMPLATE("the plain kernels are the reference's", T, float, bf16, f16) {
  for (const Conv2dParams& p : shapes()) {
    INFO(text(p));
    const Problem<T> c(p);
    cuda::plain_convolution(ConvPass::forward, p, c.X.data(), c.W.data(), c.Y.data());
    cuda::plain_convolution(ConvPass::backward_input, p, c.DX.data(), c.W.data(), c.DY.data());
    cuda::plain_convolution(ConvPass::backward_weight, p, c.X.data(), c.DW.data(), c.DY.data());
    CHECK(distance(c.Y.values(), c.y(false)) < kTolerance<T>);
    CHECK(distance(c.DX.values(), c.dx()) < kTolerance<T>);
    CHECK(distance(c.DW.values(), c.dw()) < kTolerance<T>);
  }
}

TEST_CASE_TEMPLATE("the bias is added to every row", T, float, bf16, f16) {
  for (const int64_t channels : {1, 3, 10, 24, 257, 1000})
    for (const int64_t rows : {1, 3, 777}) {
      const std::vector<T> y = uniform<T>(rows * channels), bias = uniform<T>(channels);
      const Array<T> Y(y), B(bias);
      cuda::add_bias(rows, channels, B.data(), Y.data());
      std::vector<double> expected(y.size());
      for (size_t i = 0; i < y.size(); ++i)
        expected[i] = double(T(float(y[i]) + float(bias[i % size_t(channels)])));
      CHECK(Y.values() == expected);
    }
}

TEST_CASE_TEMPLATE("channels are padded to 8 and cut again", T, bf16, f16) {
  const auto bits = [](T* x) { return reinterpret_cast<uint16_t*>(x); };
  for (const int64_t channels : {1, 2, 3, 4, 5, 6, 7, 8})
    for (const int64_t rows : {1, 3, 255, 1024, 1025, 5003}) {
      CAPTURE(channels);
      CAPTURE(rows);
      const std::vector<T> x = uniform<T>(rows * channels);
      const size_t end = size_t(rows) * 8;
      const Array<T> X(x, rows % 2), P(poison<T>(rows * 8 + 8)), Y(poison<T>(rows * channels + 1), 1);
      cuda::pad_channels(rows, channels, bits(X.data()), bits(P.data()));
      const std::vector<double> padded = P.values();
      int wrong = 0;
      for (size_t i = 0; i < end; ++i) {
        const size_t c = i % 8;
        wrong += padded[i] != (int64_t(c) < channels ? double(x[i / 8 * size_t(channels) + c]) : 0.0);
      }
      CHECK(wrong == 0);
      CHECK(std::all_of(padded.begin() + int64_t(end), padded.end(), [](double v) { return std::isnan(v); }));
      cuda::cut_channels(rows, channels, 8, bits(P.data()), bits(Y.data()));
      std::vector<double> y = Y.values();
      CHECK(std::isnan(y.back()));
      y.pop_back();
      CHECK(y == wide(x));
    }
}

/// Shapes for patches: of one pack and of eight, with and without zeros behind, several chunks of a row.
std::vector<Conv2dParams> patch_shapes() {
  std::vector<Conv2dParams> found{
      {.batch = 2, .in_h = 4, .in_w = 261, .in_c = 2, .out_c = 8, .kernel_h = 2, .kernel_w = 2},
      {.batch = 3,
       .in_h = 19,
       .in_w = 23,
       .in_c = 3,
       .out_c = 32,
       .kernel_h = 3,
       .kernel_w = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1},
      {.batch = 1, .in_h = 12, .in_w = 9, .in_c = 1, .out_c = 5, .kernel_h = 8, .kernel_w = 8, .pad_w = 4},
      {.batch = 2,
       .in_h = 9,
       .in_w = 7,
       .in_c = 7,
       .out_c = 3,
       .kernel_h = 3,
       .kernel_w = 3,
       .pad_h = 4,
       .pad_w = 5,
       .dilation_h = 2,
       .dilation_w = 3},
      {.batch = 2, .in_h = 5, .in_w = 3, .in_c = 4, .out_c = 2, .kernel_h = 1, .kernel_w = 2, .stride_w = 3},
  };
  for (const Conv2dParams& p : shapes())
    if (cuda::can_patch(ConvPass::forward, p)) found.push_back(p);
  return found;
}

TEST_CASE_TEMPLATE("patches: what the filter sees, and zeros", T, bf16, f16) {
  const auto bits = [](T* x) { return reinterpret_cast<uint16_t*>(x); };
  for (const Conv2dParams& p : patch_shapes()) {
    INFO(text(p));
    const int64_t weights = p.kernel_h * p.kernel_w * p.in_c, length = (weights + 7) / 8 * 8;
    const int64_t n = p.batch * p.out_h() * p.out_w() * length;
    const std::vector<T> x = uniform<T>(Sizes(p).x);
    std::vector<double> expected(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      const int64_t k = i % length, pixel = i / length, tap = k / p.in_c;
      if (k >= weights) continue;
      const int64_t ow = pixel % p.out_w(), oh = pixel / p.out_w() % p.out_h();
      const int64_t image = pixel / p.out_w() / p.out_h();
      const int64_t h = oh * p.stride_h - p.pad_h + tap / p.kernel_w * p.dilation_h;
      const int64_t w = ow * p.stride_w - p.pad_w + tap % p.kernel_w * p.dilation_w;
      if (h < 0 || h >= p.in_h || w < 0 || w >= p.in_w) continue;
      expected[size_t(i)] = double(x[size_t(((image * p.in_h + h) * p.in_w + w) * p.in_c + k % p.in_c)]);
    }
    const Array<T> X(x, 1), P(poison<T>(n + 8));
    cuda::copy_patches(p, bits(X.data()), bits(P.data()));
    std::vector<double> patches = P.values();
    for (int i = 0; i < 8; ++i) {
      CHECK(std::isnan(patches.back()));
      patches.pop_back();
    }
    CHECK(patches == expected);
  }
}

TEST_CASE_TEMPLATE("the product of patches is the reference's convolution", T, bf16, f16) {
  for (const Conv2dParams& p : patch_shapes()) {
    INFO(text(p));
    const Problem<T> c(p, 1);
    const Array<T> memory(poison<T>(cuda::patches_bytes(p) / 2));
    cuda::patches_convolution(ConvPass::forward, p, c.X.data(), c.W.data(), c.Y.data(), memory.data());
    cuda::patches_convolution(ConvPass::backward_weight, p, c.X.data(), c.DW.data(), c.DY.data(),
                              memory.data());
    CHECK(distance(c.Y.values(), c.y(false)) < kTolerance<T>);
    CHECK(distance(c.DW.values(), c.dw()) < kTolerance<T>);
  }
}

TEST_CASE("which convolutions are products of patches") {
  const Conv2dParams stem{.batch = 2,
                          .in_h = 8,
                          .in_w = 8,
                          .in_c = 3,
                          .out_c = 32,
                          .kernel_h = 3,
                          .kernel_w = 3,
                          .stride_h = 2,
                          .stride_w = 2};
  CHECK(cuda::can_patch(ConvPass::forward, stem));
  CHECK(cuda::can_patch(ConvPass::backward_weight, stem));
  CHECK(!cuda::can_patch(ConvPass::backward_input, stem));
  const auto with = [&](auto change) {
    Conv2dParams p = stem;
    change(p);
    return cuda::can_patch(ConvPass::forward, p);
  };
  CHECK(with([](Conv2dParams& p) { p.in_c = 7; }));
  CHECK(!with([](Conv2dParams& p) { p.in_c = 8; }));
  CHECK(!with([](Conv2dParams& p) { p.kernel_h = p.kernel_w = 1; }));
  CHECK(!with([](Conv2dParams& p) { p.groups = 3; }));
  CHECK(cuda::patches_bytes(stem) == 18 * 32 * 2 + 32 * 32 * 2 + 128);
}

TEST_CASE_TEMPLATE("deterministic convolutions give the same bits each time", T, float, bf16) {
  const test::SameBits same_bits;
  for (const Conv2dParams& p : shapes()) {
    INFO(text(p));
    const Problem<T> c(p);
    run(c, true);
    const auto y = c.Y.values(), dx = c.DX.values(), dw = c.DW.values();
    run(c, true);
    CHECK(c.Y.values() == y);
    CHECK(c.DX.values() == dx);
    CHECK(c.DW.values() == dw);
  }
}

TEST_CASE_TEMPLATE("a captured step computes what an eager one does", T, float, bf16) {
  const Conv2dParams p{
      .batch = 2, .in_h = 9, .in_w = 9, .in_c = 8, .out_c = 16, .kernel_h = 3, .kernel_w = 3};
  const Problem<T> c(p);
  const auto& k = cuda::table<T>();
  const auto step = [&] {
    k.conv2d_forward(p, c.X.data(), c.W.data(), c.B.data(), c.Y.data(), nullptr);
    k.conv2d_backward_weight(p, c.X.data(), c.Y.data(), c.DW.data(), nullptr);
    k.gemm({.m = 3, .n = 5, .k = 7, .lda = 7, .ldb = 5, .ldc = 5}, c.X.data(), c.W.data(), c.DX.data());
  };
  SUBCASE("after a first eager one") { step(); }
  SUBCASE("cold") {}  // plans are chosen, and nothing is measured
  const auto graph = cuda::capture(step);
  CHECK(graph->nodes() >= 4);
  graph->launch();
  const auto y = c.Y.values(), dw = c.DW.values(), dx = c.DX.values();
  CHECK(distance(y, c.y(true)) < 1e-2);
  // Other inputs, the same graph: nothing was computed at the time of the capture.
  const std::vector<T> zeros(c.x.size(), T(0.0f));
  cuda::upload(c.X.data(), zeros.data(), int64_t(zeros.size() * sizeof(T)));
  graph->launch();
  for (const double v : c.DW.values()) CHECK(v == 0);
  cuda::upload(c.X.data(), c.x.data(), int64_t(c.x.size() * sizeof(T)));
  graph->launch();
  // Up to the order of sums, which the fastest convolution may have left open.
  CHECK(distance(c.Y.values(), y) < kTolerance<T>);
  CHECK(distance(c.DW.values(), dw) < kTolerance<T>);
}

TEST_CASE("a convolution of nothing is zero") {
  Conv2dParams p{.batch = 0, .in_h = 4, .in_w = 4, .in_c = 2, .out_c = 3, .kernel_h = 3, .kernel_w = 3};
  const Problem<float> c(p);
  run(c, false);
  for (const double v : c.DW.values()) CHECK(v == 0);
}

TEST_CASE_TEMPLATE("matrix products are the reference's", T, float, bf16, f16) {
  const test::ExactFloat exact;
  for (int round = 0; round < 150; ++round) {
    GemmParams p{.m = any_of({1, 2, 3, 10, 17, 64, 129}),
                 .n = any_of({1, 3, 8, 10, 31, 96}),
                 .k = any_of({1, 3, 7, 32, 65, 200}),
                 .transpose_a = any_of({0, 1}) == 1,
                 .transpose_b = any_of({0, 1}) == 1,
                 .accumulate = any_of({0, 1}) == 1,
                 .batch = any_of({1, 1, 2, 5})};
    const int64_t a_rows = p.transpose_a ? p.k : p.m, a_cols = p.transpose_a ? p.m : p.k;
    const int64_t b_rows = p.transpose_b ? p.n : p.k, b_cols = p.transpose_b ? p.k : p.n;
    p.lda = a_cols + any_of({0, 0, 1, 8});
    p.ldb = b_cols + any_of({0, 0, 3, 8});
    p.ldc = p.n + any_of({0, 0, 1, 5});
    p.stride_a = any_of({0, 1}) * (a_rows * p.lda + any_of({0, 3}));
    p.stride_b = any_of({0, 1}) * (b_rows * p.ldb + any_of({0, 8}));
    p.stride_c = p.m * p.ldc + any_of({0, 0, 2});
    // Every c in one place: with `accumulate` the sum of all, which 16 bits round at each step.
    if (sizeof(T) == 4 && any_of({0, 1, 2, 3}) == 0) p.stride_c = 0;
    const int64_t shift = any_of({0, 0, 1, 3});
    INFO("m ", p.m, " n ", p.n, " k ", p.k, " ta ", p.transpose_a, " tb ", p.transpose_b, " acc ",
         p.accumulate, " ld ", p.lda, " ", p.ldb, " ", p.ldc, " batch ", p.batch, " strides ", p.stride_a,
         " ", p.stride_b, " ", p.stride_c, " shift ", shift);

    const std::vector<T> a = uniform<T>(p.batch * std::max(p.stride_a, a_rows * p.lda)),
                         b = uniform<T>(p.batch * std::max(p.stride_b, b_rows * p.ldb));
    const int64_t nc = (p.batch - 1) * p.stride_c + p.m * p.ldc;
    // What lies between the rows and the matrices is to be left alone.
    std::vector<T> c = uniform<T>(nc);
    std::vector<double> expected = wide(c);
    if (!p.accumulate)
      for (int64_t i = 0; i < p.batch; ++i)
        for (int64_t row = 0; row < p.m; ++row)
          std::fill_n(c.begin() + i * p.stride_c + row * p.ldc, p.n, poison<T>(1)[0]);
    reference<double>().gemm(p, wide(a).data(), wide(b).data(), expected.data());
    const Array<T> A(a, shift), B(b, shift), C(c, shift);
    cuda::table<T>().gemm(p, A.data(), B.data(), C.data());
    CHECK(distance(C.values(), expected) < kTolerance<T>);

    // The sum to another place, of parts that may be scaled.
    c = uniform<T>(nc);
    const float alpha = float(any_of({1, 1, -2})), beta = float(any_of({1, 1, 3, 0}));
    expected = wide(c);
    std::vector<double> scaled = wide(a);
    for (double& x : scaled) x *= double(alpha);
    for (int64_t i = 0; i < (p.stride_c > 0 ? p.batch : 1); ++i)
      for (int64_t row = 0; row < p.m; ++row)
        for (int64_t col = 0; col < p.n; ++col)
          expected[size_t(i * p.stride_c + row * p.ldc + col)] *= double(beta);
    GemmParams q = p;
    q.accumulate = true;
    reference<double>().gemm(q, scaled.data(), wide(b).data(), expected.data());
    const Array<T> start(c, shift), D(c, any_of({0, 1}));
    if (p.stride_c > 0)
      for (int64_t i = 0; i < p.batch; ++i)
        for (int64_t row = 0; row < p.m; ++row)
          std::fill_n(c.begin() + i * p.stride_c + row * p.ldc, p.n, poison<T>(1)[0]);
    const auto sum_into_d = [&](auto multiply) {
      cuda::upload(D.data(), c.data(), int64_t(c.size() * sizeof(T)));
      multiply();
      CHECK(distance(D.values(), expected) < kTolerance<T>);
    };
    sum_into_d(
        [&] { cuda::table<T>().gemm_add(p, alpha, A.data(), B.data(), beta, start.data(), D.data()); });
    if (p.stride_c > 0 || p.batch == 1)
      sum_into_d([&] { cuda::plain_product(q, alpha, A.data(), B.data(), beta, start.data(), D.data()); });
  }
}

TEST_CASE_TEMPLATE("matrix products of no size", T, float, bf16) {
  const GemmParams p{.m = 3, .n = 4, .k = 0, .lda = 1, .ldb = 4, .ldc = 5};
  std::vector<T> c = uniform<T>(15);
  const Array<T> A(uniform<T>(4)), C(c);
  GemmParams q = p;
  q.accumulate = true;
  cuda::table<T>().gemm(q, A.data(), A.data(), C.data());
  q.m = 0;
  q.k = 2;
  cuda::table<T>().gemm(q, A.data(), A.data(), C.data());
  CHECK(C.values() == wide(c));
  std::vector<T> to = uniform<T>(15);
  const Array<T> D(to);
  for (const float beta : {1.0f, 2.0f, 0.0f}) {
    cuda::table<T>().gemm_add(p, 1, A.data(), A.data(), beta, C.data(), D.data());
    for (size_t i = 0; i < 14; ++i)
      if (i % 5 < 4) to[i] = T(beta * float(c[i]));
    CHECK(D.values() == wide(to));
  }
  cuda::table<T>().gemm(p, A.data(), A.data(), C.data());
  for (size_t i = 0; i < 14; ++i)
    if (i % 5 < 4) c[i] = T(0.0f);
  CHECK(C.values() == wide(c));
}

TEST_CASE("timing, and what fails in it") {
  const Array<float> b(std::vector<float>{1}), y(std::vector<float>{0});
  const auto add = [&] { cuda::add_bias(1, 1, b.data(), y.data()); };
  const float time = cuda::time_of(add);
  CHECK(time > 0);
  CHECK(time < 1000);
  CHECK(y.values()[0] == 1 + 4 * 6);  // eagerly, and by each of six launches

  int calls = 0;
  CHECK_THROWS_AS(cuda::time_of([&] {
                    add();
                    if (++calls == 3) throw cuda::Error("in the midst of the capture");
                  }),
                  cuda::Error);
  CHECK(calls == 3);
  add();  // the stream is none the worse for it
  CHECK(y.values()[0] == 1 + 4 * 6 + 2);
}

TEST_CASE("the switches keep what they are set to") {
  CHECK(!cuda::deterministic());
  CHECK(cuda::conv_autotune());
  CHECK(cuda::plan_cache_folder().empty());
  cuda::set_deterministic(true);
  cuda::set_conv_autotune(false);
  cuda::set_plan_cache_folder("somewhere");
  CHECK(cuda::deterministic());
  CHECK(!cuda::conv_autotune());
  CHECK(cuda::plan_cache_folder() == "somewhere");
  cuda::set_deterministic(false);
  cuda::set_conv_autotune(true);
  cuda::set_plan_cache_folder("");
}

TEST_CASE_TEMPLATE("products large enough to be measured", T, float, bf16, f16) {
  const test::ExactFloat exact;
  const GemmParams p{.m = 130, .n = 136, .k = 144, .transpose_b = true, .lda = 144, .ldb = 144, .ldc = 136};
  const std::vector<T> a = uniform<T>(p.m * p.k), b = uniform<T>(p.n * p.k), c = uniform<T>(p.m * p.n);
  const Array<T> A(a), B(b), C(c), D(poison<T>(p.m * p.n));
  GemmParams sum = p;
  sum.accumulate = true;
  std::vector<double> product(c.size()), with_c = wide(c), twice;
  reference<double>().gemm(p, wide(a).data(), wide(b).data(), product.data());
  reference<double>().gemm(sum, wide(a).data(), wide(b).data(), with_c.data());
  cuda::table<T>().gemm(p, A.data(), B.data(), D.data());
  CHECK(distance(D.values(), product) < kTolerance<T>);
  cuda::table<T>().gemm_add(p, 1, A.data(), B.data(), 1, C.data(), D.data());
  CHECK(distance(D.values(), with_c) < kTolerance<T>);
  cuda::table<T>().gemm(sum, A.data(), B.data(),
                        C.data());  // in place: added once, however often it was tried
  CHECK(distance(C.values(), with_c) < kTolerance<T>);
}

#if !WEFT_EMULATED  // what cuDNN and cuBLASLt choose
TEST_CASE("choices go to the folder, and a damaged file does no harm") {
  if (cuda::own_kernels_only()) return;
  const fs::path folder = fs::temp_directory_path() / ("weft_choices_" + std::to_string(generator()()));
  cuda::set_plan_cache_folder(folder.string());
  // A shape that no other test has: its choice is made here.
  Conv2dParams p{.batch = 2, .in_h = 14, .in_w = 14, .in_c = 16, .out_c = 40, .kernel_h = 3, .kernel_w = 3};
  const Problem<bf16> c(p);
  run(c, false);
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    ++files;
    std::ofstream(entry.path()) << "{";
  }
  CHECK(files == 3);
  run(c, false);
  CHECK(distance(c.Y.values(), c.y(false)) < 1e-2);
  cuda::set_plan_cache_folder("");
  fs::remove_all(folder);
}

/// The passes that may run on copies of the operands.
template <class T>
void both(const Problem<T>& c) {
  const auto& k = cuda::table<T>();
  k.conv2d_forward(c.p, c.X.data(), c.W.data(), nullptr, c.Y.data(), nullptr);
  k.conv2d_backward_weight(c.p, c.X.data(), c.DY.data(), c.DW.data(), nullptr);
}

/// Of what lies in a folder of plans.
std::vector<std::string> keys_in(const fs::path& folder) {
  std::vector<std::string> keys;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::ifstream file(entry.path());
    const std::string text{std::istreambuf_iterator<char>(file), {}}, name = "\"key\":\"";
    const size_t begin = text.find(name) + name.size();
    keys.push_back(text.substr(begin, text.find('"', begin) - begin));
  }
  return keys;
}

TEST_CASE_TEMPLATE("few channels run on plans for 8, which come from the folder", T, bf16, f16) {
  if (cuda::own_kernels_only()) return;
  const fs::path folder = fs::temp_directory_path() / ("weft_padded_" + std::to_string(generator()()));
  cuda::set_plan_cache_folder(folder.string());
  // Shapes that no other test has: their choices are made here.
  Conv2dParams p{.batch = 3,
                 .in_h = 19,
                 .in_w = 23,
                 .in_c = 8,
                 .out_c = 48,
                 .kernel_h = 3,
                 .kernel_w = 3,
                 .stride_h = 2,
                 .stride_w = 2,
                 .pad_h = 1,
                 .pad_w = 1};
  both(Problem<T>(p));
  std::vector<std::pair<std::string, std::string>> found;  // keys and plans
  for (const std::string& key : keys_in(folder)) {
    const auto plan = cuda::read_plan(folder.string(), key);
    REQUIRE(plan);
    found.emplace_back(key, *plan);
  }
  REQUIRE(found.size() == 2);
  for (p.in_c = 1; p.in_c < 8; ++p.in_c) {
    CAPTURE(p.in_c);
    const std::string channels = std::to_string(p.in_c) + " ";
    for (auto [key, plan] : found) {
      for (const std::string before : {"x3x19x23x", "w48x3x3x"})
        key.replace(key.find(before) + before.size(), 2, channels);
      REQUIRE(cuda::write_plan(folder.string(), key, "padded " + plan));
    }
    const auto files = [&] {
      return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
    };
    const auto written = files();
    const Problem<T> c(p);
    both(c);
    CHECK(files() == written);  // nothing else was chosen
    CHECK(distance(c.Y.values(), c.y(false)) < kTolerance<T>);
    CHECK(distance(c.DW.values(), c.dw()) < kTolerance<T>);
  }
  cuda::set_plan_cache_folder("");
  fs::remove_all(folder);
}

TEST_CASE_TEMPLATE("the product of patches comes from the folder", T, bf16, f16) {
  if (cuda::own_kernels_only()) return;
  const fs::path folder = fs::temp_directory_path() / ("weft_patches_" + std::to_string(generator()()));
  cuda::set_plan_cache_folder(folder.string());
  Conv2dParams p{.batch = 3,
                 .in_h = 21,
                 .in_w = 27,
                 .in_c = 3,
                 .out_c = 40,
                 .kernel_h = 3,
                 .kernel_w = 3,
                 .stride_h = 2,
                 .stride_w = 2,
                 .pad_h = 1,
                 .pad_w = 1};
  both(Problem<T>(p));
  const auto files = [&] { return std::distance(fs::directory_iterator(folder), fs::directory_iterator()); };
  REQUIRE(files() == 2);
  for (std::string key : keys_in(folder)) {
    key.replace(key.find("x3x21x27x3 "), 2, "x2");
    REQUIRE(cuda::write_plan(folder.string(), key, "patches"));
  }
  p.batch = 2;
  const Problem<T> c(p);
  both(c);
  CHECK(files() == 4);  // nothing else was chosen
  CHECK(distance(c.Y.values(), c.y(false)) < kTolerance<T>);
  CHECK(distance(c.DW.values(), c.dw()) < kTolerance<T>);
  cuda::set_plan_cache_folder("");
  fs::remove_all(folder);
}

TEST_CASE("a measured product comes from the folder, and a damaged file does no harm") {
  if (cuda::own_kernels_only()) return;
  const fs::path folder = fs::temp_directory_path() / ("weft_products_" + std::to_string(generator()()));
  cuda::set_plan_cache_folder(folder.string());
  const auto correct = [](int64_t m) {
    const GemmParams p{.m = m, .n = 152, .k = 160, .lda = 160, .ldb = 152, .ldc = 152};
    const std::vector<bf16> a = uniform<bf16>(p.m * p.k), b = uniform<bf16>(p.k * p.n);
    const Array<bf16> A(a), B(b), C(poison<bf16>(p.m * p.n));
    std::vector<double> expected(size_t(p.m * p.n));
    reference<double>().gemm(p, wide(a).data(), wide(b).data(), expected.data());
    cuda::table<bf16>().gemm(p, A.data(), B.data(), C.data());
    return distance(C.values(), expected) < kTolerance<bf16>;
  };
  CHECK(correct(141));
  REQUIRE(keys_in(folder).size() == 1);
  const std::string key = keys_in(folder)[0];
  REQUIRE(key.starts_with("product 141 "));
  const auto algorithm = cuda::read_plan(folder.string(), key);
  REQUIRE(algorithm);
  const auto write = [&](const std::string& m, const std::string& text) {
    std::string other = key;
    REQUIRE(cuda::write_plan(folder.string(), other.replace(other.find("141"), 3, m), text));
  };
  write("142", *algorithm);
  write("143", "of no use");
  write("144", std::string(algorithm->size(), 'f'));
  for (const int64_t m : {142, 143, 144}) {
    CAPTURE(m);
    CHECK(correct(m));
  }
  CHECK(keys_in(folder).size() == 4);
  cuda::set_plan_cache_folder("");
  fs::remove_all(folder);
}
#endif
