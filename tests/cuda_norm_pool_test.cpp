// A batch norm with its activation and the maximum over windows of 3x3 on the GPU, against the reference in
// double; on the emulated device with as many blocks as on a GPU.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "support/batch_norm_problem.h"
#include "support/test_device.h"
#include "weft/kernels/cuda.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::kernels;
using namespace weft::test;

namespace {

[[maybe_unused]] const bool is_set = emulate_multiprocessors(132);

struct Image {
  int64_t batch, h, w, channels;
  bool ceil = false;
  int64_t skip = 0;  // elements that the arrays are shifted by
};
// Odd and even sides, one pixel an image, one row, windows that hang over, channels that are no whole packs,
// more than a block takes, and more rows than blocks.
const std::vector<Image> kImages = {
    {2, 7, 9, 8}, {40, 1, 1, 8},           {3, 1, 6, 16},   {2, 8, 6, 24}, {2, 6, 8, 16, true},
    {2, 5, 6, 3}, {2, 6, 7, 16, false, 1}, {1, 4, 60, 136}, {37, 31, 5, 8}};
const std::vector<Activation> kActivations = {Activation::identity, Activation::relu, Activation::mish,
                                              Activation::silu};

/// Inputs of one call, on both sides, and what the reference makes of them.
template <class T>
struct Problem {
  Pool2dParams p;
  int64_t inputs, outputs;
  std::vector<T> x, dy;
  std::vector<float> mean, invstd, weight, bias;
  DeviceArray<T> x_d, dy_d, y_d, x_at_d, g_d, dx_d;
  DeviceArray<float> mean_d, invstd_d, weight_d, bias_d, dweight_d, dbias_d;
  DeviceArray<uint8_t> at_d;
  std::vector<double> x_w, mean_w, invstd_w, weight_w, bias_w;

  static Pool2dParams params(const Image& i) {
    Pool2dParams p;
    p.batch = i.batch, p.in_h = i.h, p.in_w = i.w, p.channels = i.channels;
    p.out_h = (i.h - 1) / 2 + 1 + (i.ceil && i.h % 2 == 0),
    p.out_w = (i.w - 1) / 2 + 1 + (i.ceil && i.w % 2 == 0);
    p.kernel_h = p.kernel_w = 3, p.stride_h = p.stride_w = 2, p.pad_h = p.pad_w = 1;
    return p;
  }
  /// Values of an image's channel are apart, so that rounding chooses no maximum, unless they are given.
  static std::vector<T> distinct(Random& random, const Pool2dParams& p) {
    std::vector<T> x(size_t(p.batch * p.in_h * p.in_w * p.channels));
    const int64_t pixels = p.in_h * p.in_w;
    std::vector<int> order(static_cast<size_t>(pixels));
    for (int64_t n = 0; n < p.batch; ++n)
      for (int64_t c = 0; c < p.channels; ++c) {
        for (size_t i = 0; i < order.size(); ++i) order[i] = int(i);
        for (size_t i = order.size(); i > 1; --i)
          std::swap(order[i - 1], order[size_t(random.below(int64_t(i)))]);
        for (int64_t i = 0; i < pixels; ++i)
          x[size_t((n * pixels + i) * p.channels + c)] =
              T(float((order[size_t(i)] - pixels / 2) * std::min(0.02, 6.0 / double(pixels))));
      }
    return x;
  }

  Problem(Random& random, const Image& image, std::vector<T> values = {})
      : p(params(image)),
        inputs(p.batch * p.in_h * p.in_w * p.channels),
        outputs(p.batch * p.out_h * p.out_w * p.channels),
        x(values.empty() ? distinct(random, p) : values),
        dy(random.normal<T>(outputs, 0.4)),
        mean(random.normal<float>(p.channels, 0, 0.3)),
        invstd(random.uniform<float>(p.channels, 0.5, 2)),
        weight(random.normal<float>(p.channels, 0.5)),
        bias(random.normal<float>(p.channels)),
        x_d(x, image.skip),
        dy_d(dy, image.skip),
        y_d(outputs, image.skip),
        x_at_d(outputs, image.skip),
        g_d(outputs, image.skip),
        dx_d(inputs, image.skip),
        mean_d(mean, image.skip),
        invstd_d(invstd),
        weight_d(weight),
        bias_d(bias),
        dweight_d(p.channels),
        dbias_d(p.channels),
        at_d(outputs, image.skip),
        x_w(to_double(x)),
        mean_w(to_double(mean)),
        invstd_w(to_double(invstd)),
        weight_w(to_double(weight)),
        bias_w(to_double(bias)) {}

  void set_weight(size_t c, float value) {
    weight[c] = value, weight_w[c] = double(value);
    weight_d.upload(weight);
  }

  template <class V, class W>
  BatchNormArgs<V> arguments(Activation act, const V* values, const W* m, const W* i, const W* w,
                             const W* b) const {
    BatchNormArgs<V> a;
    a.rows = p.batch * p.in_h * p.in_w, a.channels = p.channels;
    a.x = values, a.mean = m, a.invstd = i, a.weight = w, a.bias = b;
    a.activation = act, a.param = W(activation_default_param(act));
    return a;
  }
  BatchNormArgs<T> device(Activation act) {
    return arguments<T, float>(act, x_d.data(), mean_d.data(), invstd_d.data(), weight_d.data(),
                               bias_d.data());
  }
  BatchNormArgs<double> oracle(Activation act) const {
    return arguments<double, double>(act, x_w.data(), mean_w.data(), invstd_w.data(), weight_w.data(),
                                     bias_w.data());
  }
  void forward(Activation act) {
    cuda::table<T>().batch_norm_max_pool_forward(device(act), p, y_d.data(), at_d.data(), x_at_d.data());
  }
  void backward(Activation act, T* g) {
    cuda::table<T>().batch_norm_max_pool_backward(
        device(act), p, dy_d.data(), at_d.data(), x_at_d.data(), g,
        BatchNormGradients<T>{dx_d.data(), dweight_d.data(), dbias_d.data()});
  }
  /// Of each output, the pixel of its image that the kernel has found.
  std::vector<int32_t> index() {
    const std::vector<uint8_t> at = at_d.host();
    std::vector<int32_t> found(at.size());
    for (size_t o = 0; o < at.size(); ++o) {
      const int64_t pixel = int64_t(o) / p.channels, oh = pixel / p.out_w % p.out_h, ow = pixel % p.out_w;
      const int64_t h = 2 * oh - 1 + at[o] / 3, w = 2 * ow - 1 + at[o] % 3;
      REQUIRE(at[o] < 9);
      REQUIRE((h >= 0 && h < p.in_h && w >= 0 && w < p.in_w));
      found[o] = int32_t(h * p.in_w + w);
    }
    return found;
  }
  /// x where index says.
  std::vector<double> picked(const std::vector<double>& from, const std::vector<int32_t>& index) const {
    std::vector<double> to(index.size());
    for (size_t o = 0; o < to.size(); ++o) {
      const size_t c = size_t(p.channels), image = o / (size_t(p.out_h * p.out_w) * c);
      to[o] = from[(image * size_t(p.in_h * p.in_w) + size_t(index[o])) * c + o % c];
    }
    return to;
  }
};

#define CAPTURE_IMAGE(image) \
  CAPTURE(image.batch);      \
  CAPTURE(image.h);          \
  CAPTURE(image.w);          \
  CAPTURE(image.channels)

}  // namespace

TEST_CASE_TEMPLATE("batch norm, activation and maximum, and their gradients", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  for (const Image& image : kImages) {
    CAPTURE_IMAGE(image);
    Problem<T> q(random, image);
    q.set_weight(0, -0.7f);
    q.set_weight(1, 0.9f);
    const size_t n = size_t(q.inputs), outputs = size_t(q.outputs), c = size_t(q.p.channels);
    for (const Activation act : kActivations) {
      CAPTURE(activation_name(act));
      REQUIRE(cuda::table<T>().has_batch_norm_max_pool(q.p, act));
      std::vector<double> a(n), y(outputs);
      std::vector<int32_t> index(outputs);
      reference<double>().batch_norm_forward(q.oracle(act), a.data());
      reference<double>().max_pool2d_forward(q.p, a.data(), y.data(), index.data());
      q.forward(act);
      CHECK(distance(q.y_d.host(), y) < kTolerance<T>);
      // Where another pixel was found, its activation is the same but for rounding: relu's zeros, and the two
      // sides of mish.
      const std::vector<int32_t> found = q.index();
      const std::vector<double> of_found = q.picked(a, found);
      double worst = 0;
      for (size_t o = 0; o < outputs; ++o) worst = std::max(worst, y[o] - of_found[o]);
      CHECK(worst < 1e-4);
      const std::vector<double> x_at = to_double(q.x_at_d.host());
      CHECK(x_at == q.picked(q.x_w, found));

      // From here on with the maxima found; dy is 0 where rounding may choose relu's slope.
      std::vector<T> dy = q.dy;
      for (size_t o = 0; o < outputs; ++o) {
        const double z =
            (x_at[o] - q.mean_w[o % c]) * q.invstd_w[o % c] * q.weight_w[o % c] + q.bias_w[o % c];
        if (std::abs(z) < 1e-4) dy[o] = T(0.0f);
      }
      q.dy_d.upload(dy);
      std::vector<double> da(n), dweight(c), dbias(c), dx(n);
      reference<double>().max_pool2d_backward(q.p, to_double(dy).data(), found.data(), da.data());
      reference<double>().batch_norm_backward_reduce(q.oracle(act), da.data(), nullptr, dweight.data(),
                                                     dbias.data(), nullptr);
      reference<double>().batch_norm_backward_input(q.oracle(act), da.data(), dweight.data(), dbias.data(),
                                                    true, dx.data());
      q.backward(act, q.g_d.data());
      CHECK(distance(q.dweight_d.host(), dweight) < 1e-4);
      CHECK(distance(q.dbias_d.host(), dbias) < 1e-4);
      CHECK(distance(q.dx_d.host(), dx) < kTolerance<T>);
      const std::vector<T> first = q.dx_d.host();
      const std::vector<float> dweight_first = q.dweight_d.host();
      q.backward(act, q.dy_d.data());  // in place
      CHECK(same_bits(q.dx_d.host(), first));
      CHECK(same_bits(q.dweight_d.host(), dweight_first));
      CHECK(same_bits(q.dy_d.host(), q.g_d.host()));
    }
  }
}

TEST_CASE_TEMPLATE("of equal values the first is found, of NaN the last, as max_pool2d finds them", T, float,
                   bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  const double special[] = {std::nan(""), INFINITY, -INFINITY, 0, 1, 1, -2, -2};
  for (const Image& image : kImages)
    for (const int kinds : {8, 5, 3}) {  // NaN and infinities among them, none
      CAPTURE_IMAGE(image);
      CAPTURE(kinds);
      std::vector<T> x(size_t(image.batch * image.h * image.w * image.channels));
      for (T& v : x) v = T(special[8 - 1 - random.below(kinds)]);
      Problem<T> q(random, image, x);
      q.set_weight(0, -0.5f);
      q.set_weight(1, 1.5f);
      q.set_weight(2, 0);  // then the first pixel of a window
      const size_t outputs = size_t(q.outputs);
      std::vector<double> a(x.size()), y(outputs);
      std::vector<int32_t> index(outputs);
      reference<double>().batch_norm_forward(q.oracle(Activation::identity), a.data());
      reference<double>().max_pool2d_forward(q.p, a.data(), y.data(), index.data());
      q.forward(Activation::identity);
      CHECK(distance(q.y_d.host(), y) < kTolerance<T>);
      CHECK(q.index() == index);
      CHECK(distance(q.x_at_d.host(), q.picked(q.x_w, index)) == 0);
      for (const Activation act : {Activation::relu, Activation::mish, Activation::silu}) {
        CAPTURE(activation_name(act));
        reference<double>().batch_norm_forward(q.oracle(act), a.data());
        reference<double>().max_pool2d_forward(q.p, a.data(), y.data(), index.data());
        q.forward(act);
        CHECK(distance(q.y_d.host(), y) < kTolerance<T>);
      }
    }
}

TEST_CASE("what has a kernel") {
  const auto has = [](int64_t kernel, int64_t stride, int64_t pad, Activation act) {
    Pool2dParams p;
    p.kernel_h = p.kernel_w = kernel, p.stride_h = p.stride_w = stride, p.pad_h = p.pad_w = pad;
    return cuda::table<bf16>().has_batch_norm_max_pool(p, act);
  };
  CHECK(has(3, 2, 1, Activation::mish));
  CHECK_FALSE(has(3, 2, 0, Activation::mish));
  CHECK_FALSE(has(3, 1, 1, Activation::mish));
  CHECK_FALSE(has(2, 2, 0, Activation::mish));
  CHECK_FALSE(has(3, 2, 1, Activation::gelu));
  // Falls again, so that a maximum may lie between the ends.
  CHECK_FALSE(has(3, 2, 1, Activation::sine_relu));
}

// That a window's maximum is at one of its ends is true of these.
TEST_CASE("activations with a kernel fall up to one point and rise from there on") {
  for (const Activation act : kActivations) {
    CAPTURE(activation_name(act));
    bool rising = false;
    for (double x = -40; x < 40; x += 1e-3) {
      const double slope = activation_slope(act, x);
      rising = rising || slope > 0;
      if (rising) CHECK(slope >= 0);
      if (!rising) CHECK(slope <= 0);
    }
    CHECK(rising);
  }
}

namespace {

/// What the op, or the two of which it is made, give, and their gradients.
struct Result {
  Tensor y, running_mean, running_var;
  std::vector<Tensor> gradients;
};
Result run(DType dtype, bool fused, Activation act, const Pool2dOptions& pool, int64_t channels) {
  Generator generator(11);
  const auto vector = [&](double mean, double deviation) {
    return Tensor::normal({channels}, mean, deviation, generator).to(Device::cuda);
  };
  const Tensor x =
      Tensor::normal({3, 9, 10, channels}, 0.5, 2, generator).to(dtype).to(Device::cuda).set_requires_grad();
  const Tensor weight = vector(1, 0.2).set_requires_grad(), bias = vector(0, 0.5).set_requires_grad();
  Result r{{}, vector(0, 1), Tensor::ones({channels}, DType::f32, Device::cuda), {}};
  const BatchNormOptions o{.momentum = 0.3, .eps = 1e-3, .activation = act};
  Tape tape;
  if (fused)
    r.y = batch_norm_max_pool({x, weight, bias, r.running_mean, r.running_var}, pool, o);
  else
    r.y = max_pool2d(batch_norm(x, weight, bias, r.running_mean, r.running_var, true, o), pool);
  const Tensor dy = Tensor::uniform(r.y.shape(), 0.5, 1, generator).to(dtype).to(Device::cuda);
  r.gradients = tape.grad({r.y}, {x, weight, bias}, {.grad_outputs = {dy}});
  r.y = r.y.detach();
  return r;
}
std::vector<float> values(const Tensor& t) { return t.to(Device::cpu).to(DType::f32).to_vector<float>(); }
std::vector<double> wide(const Tensor& t) { return to_double(values(t)); }

const Pool2dOptions kStem{.kernel = 3, .stride = 2, .padding = 1};

}  // namespace

TEST_CASE("the op is the two of which it is made, to their running values") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const Activation act : {Activation::identity, Activation::relu, Activation::mish, Activation::silu,
                                 Activation::gelu})  // the last one without a kernel
      for (const int64_t channels : {16, 5})
        for (Pool2dOptions pool :
             {kStem, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true}, {.kernel = 2}}) {
          CAPTURE(std::string(name_of(dtype)));
          CAPTURE(activation_name(act));
          CAPTURE(channels);
          CAPTURE(pool.kernel);
          const Result got = run(dtype, true, act, pool, channels),
                       want = run(dtype, false, act, pool, channels);
          const double tolerance = dtype == DType::f32 ? 1e-5 : 1e-2;
          CHECK(distance(values(got.y), wide(want.y)) < tolerance);
          CHECK(distance(values(got.running_mean), wide(want.running_mean)) < 1e-6);
          CHECK(distance(values(got.running_var), wide(want.running_var)) < 1e-6);
          // Rounding makes values equal that differ: in 16 bits some maxima are others.
          const double gradients = dtype == DType::f32 ? 1e-4 : 0.2;
          for (size_t i = 0; i < 3; ++i)
            CHECK(distance(values(got.gradients[i]), wide(want.gradients[i])) < gradients);
        }
}

TEST_CASE("the op names what is wrong") {
  const Tensor v = Tensor::ones({8}, DType::f32, Device::cuda);
  const auto call = [&](const Shape& shape) {
    return batch_norm_max_pool({Tensor::ones(shape, DType::f32, Device::cuda), v, v, v.clone(), v.clone()},
                               kStem);
  };
  CHECK_THROWS_AS(call({1, 1, 1, 8}), Error);
  CHECK_THROWS_AS(call({4, 8}), Error);
  CHECK_THROWS_AS(call({2, 4, 4, 7}), Error);
}

TEST_CASE("the op's gradients of gradients are those of the two") {
  Generator generator(4);
  std::vector<Tensor> v;
  for (const Shape& shape : {Shape{2, 6, 7, 8}, Shape{8}, Shape{8}})
    v.push_back(Tensor::normal(shape, 0.3, 1, generator).to(Device::cuda).set_requires_grad());
  const Tensor to = Tensor::normal({2, 3, 4, 8}, 0, 1, generator).to(Device::cuda);
  for (const Activation act : {Activation::identity, Activation::mish}) {
    CAPTURE(activation_name(act));
    const auto penalty = [&](bool fused) {
      const Tensor mean = Tensor::zeros({8}, DType::f32, Device::cuda),
                   var = Tensor::ones({8}, DType::f32, Device::cuda);
      Tape tape;
      const Tensor y =
          fused ? batch_norm_max_pool({v[0], v[1], v[2], mean, var}, kStem, {.activation = act})
                : max_pool2d(batch_norm(v[0], v[1], v[2], mean, var, true, {.activation = act}), kStem);
      const auto slopes = tape.grad(sum(square(y) * to), v, {.create_graph = true});
      return tape.grad(sum(square(slopes[0])) + sum(square(slopes[1])), v, {.materialize_grads = true});
    };
    const auto got = penalty(true), want = penalty(false);
    for (size_t i = 0; i < v.size(); ++i) CHECK(distance(values(got[i]), wide(want[i])) < 1e-4);
  }
}

TEST_CASE("XResNet's stem ends with the op, unless somebody asks for a result within") {
  manual_seed(5);
  XResNet net(18, {.classes = 4});
  net.to(Device::cuda);
  const Tensor x = Tensor::uniform({2, 16, 16, 3}, -1, 1).to(Device::cuda);
  const auto fused = [&] {
    Tape tape;
    net(x);
    int found = 0;
    for (const TapeEntry& e : tape.entries())
      if (e.op == "batch_norm_max_pool") {
        ++found;
        CHECK(e.scope == "stem.2.bn");
      }
    return found == 1;
  };
  CHECK(fused());
  auto& last = dynamic_cast<ConvBn&>(net.stem[2]);
  for (Module* m : {static_cast<Module*>(&net.stem), static_cast<Module*>(&last),
                    static_cast<Module*>(&last.bn), net.pool.get()}) {
    int calls = 0;
    RemovableHandle handle = m->register_forward_hook([&](Module&, const Tensor&, const Tensor&) {
      ++calls;
      return Tensor();
    });
    CHECK_FALSE(fused());
    CHECK(calls == 1);
    handle.remove();
    CHECK(fused());
  }
  last.recompute();
  CHECK_FALSE(fused());
  last.recompute(false);
  last.eval();
  CHECK_FALSE(fused());
  last.train();
  CHECK(fused());
  XResNet other(18, {.activation = Activation::prelu, .classes = 4});
  other.to(Device::cuda);
  other(x);  // an activation that learns
}

TEST_CASE("XResNet with its stem fused learns what it learns otherwise") {
  const auto gradients = [](bool hook) {
    manual_seed(5);
    XResNet net(18, {.classes = 4});
    net.to(Device::cuda);
    RemovableHandle handle;
    if (hook)
      handle =
          net.pool->register_forward_hook([](Module&, const Tensor&, const Tensor&) { return Tensor(); });
    Generator generator(1);
    const Tensor x = Tensor::uniform({4, 32, 32, 3}, -1, 1, generator).to(Device::cuda);
    Tape tape;
    tape.backward(cross_entropy(net(x), Tensor::from<int64_t>({0, 1, 2, 3}, {4}).to(Device::cuda)));
    std::vector<float> all;
    for (const Parameter& p : net.parameters())
      if (p.name.rfind("stem", 0) == 0)
        for (const float g : values(p.tensor.grad())) all.push_back(g * 100);
    return all;
  };
  CHECK(distance(gradients(false), to_double(gradients(true))) < 1e-3);
}

TEST_CASE_TEMPLATE("with a residual and the average over 2x2", T, float, bf16, f16) {
  Random random;
  CAPTURE(random.seed());
  const KernelTable<T>& k = cuda::table<T>();
  for (const auto& sizes : {std::array<int64_t, 5>{3, 2, 2, 8, 0},
                            {2, 6, 4, 24, 0},
                            {5, 4, 10, 64, 0},
                            {2, 4, 6, 5, 0},
                            {2, 4, 6, 16, 1},
                            {67, 4, 4, 136, 0}})
    for (const Activation act : kActivations) {
      const int64_t batch = sizes[0], h = sizes[1], w = sizes[2], channels = sizes[3], skip = sizes[4];
      CAPTURE(h);
      CAPTURE(channels);
      CAPTURE(activation_name(act));
      Pool2dParams p;
      p.batch = batch, p.in_h = h, p.in_w = w, p.channels = channels, p.out_h = h / 2, p.out_w = w / 2;
      p.kernel_h = p.kernel_w = p.stride_h = p.stride_w = 2;
      REQUIRE(k.has_batch_norm_avg_pool(p, act));
      BatchNormProblem<T> problem(random, {batch * h * w, channels}, skip);
      const auto n = problem.x.size(), c = size_t(channels);
      const std::vector<T> dpooled = random.normal<T>(int64_t(n / 4), 0, 4);
      std::vector<double> y(n), pooled(n / 4), spread(n), g(n), dweight(c), dbias(c);
      reference<double>().batch_norm_forward(problem.oracle(act, true), y.data());
      reference<double>().avg_pool2d_forward(p, y.data(), pooled.data());
      reference<double>().avg_pool2d_backward(p, to_double(dpooled).data(), spread.data());
      for (size_t i = 0; i < n; ++i)  // 0 where a kink is so near that rounding may choose the slope
        spread[i] += problem.dy_w[i];
      reference<double>().batch_norm_backward_reduce(problem.oracle(act, true), spread.data(), g.data(),
                                                     dweight.data(), dbias.data(), nullptr);
      DeviceArray<T> y_d{int64_t(n)}, pooled_d{int64_t(n / 4)}, dy_d(problem.dy), dpooled_d(dpooled),
          g_d{int64_t(n)};
      DeviceArray<float> dweight_d(channels), dbias_d(channels);
      k.batch_norm_avg_pool_forward(problem.device(act, true), p, y_d.data(), pooled_d.data());
      CHECK(distance(y_d.host(), y) < kTolerance<T>);
      CHECK(distance(pooled_d.host(), pooled) < kTolerance<T>);
      const auto reduce = [&](T* to) {
        k.batch_norm_avg_pool_backward_reduce(problem.device(act, true), p, dy_d.data(), dpooled_d.data(), to,
                                              dweight_d.data(), dbias_d.data());
      };
      reduce(g_d.data());
      CHECK(distance(g_d.host(), g) < kTolerance<T>);
      CHECK(distance(dweight_d.host(), dweight) < 1e-4);
      CHECK(distance(dbias_d.host(), dbias) < 1e-4);
      reduce(dy_d.data());  // in place
      CHECK(same_bits(dy_d.host(), g_d.host()));
    }
  Pool2dParams p;
  p.batch = 1, p.in_h = 4, p.in_w = 4, p.channels = 8, p.out_h = p.out_w = 2;
  p.kernel_h = p.kernel_w = p.stride_h = p.stride_w = 2;
  CHECK_FALSE(k.has_batch_norm_avg_pool(p, Activation::gelu));
  p.in_h = 3;
  CHECK_FALSE(k.has_batch_norm_avg_pool(p, Activation::mish));
}
