// Ops for sequences and normalisation: gradients in f64 on odd shapes, edges, errors.
#include <cmath>

#include "support/errors.h"
#include "support/gradients.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::test;

namespace {

Tensor f32(const Shape& s) { return Tensor::ones(s); }
Tensor f64(const Shape& s) { return Tensor::ones(s, DType::f64); }
Tensor i64(const Shape& s) { return Tensor::zeros(s, DType::i64); }

Tensor part(const Inputs& in, size_t i) { return i < in.size() ? in[i] : Tensor(); }

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  double d = 0;
  for (int64_t i = 0; i < a.numel(); ++i) d = std::max(d, std::abs(a.at(i) - b.at(i)));
  return d;
}

}  // namespace

TEST_CASE("layer, group and instance norm: gradients") {
  for (const auto& c : {std::pair{Shape{3, 5}, 1}, {Shape{2, 3, 4}, 2}, {Shape{7, 1}, 1}}) {
    const Shape& shape = c.first;
    const int normalized = c.second;
    CAPTURE(shape.to_string());
    std::vector<int64_t> last;
    for (int i = shape.ndim() - normalized; i < shape.ndim(); ++i) last.push_back(shape[i]);
    const Shape size{std::span<const int64_t>(last)};
    const Function f = [&](const Inputs& in) {
      return layer_norm(in[0], last, part(in, 1), part(in, 2), 1e-2);
    };
    for (const Inputs& inputs : {Inputs{normal(shape)}, Inputs{normal(shape), normal(size)},
                                 Inputs{normal(shape), normal(size), normal(size)}})
      check_both_gradients(f, inputs);
  }
  for (const auto& c :
       {std::pair{Shape{2, 3, 2, 6}, 3}, {Shape{2, 5, 4}, 1}, {Shape{3, 7, 3}, 3}, {Shape{4, 6}, 2}}) {
    const Shape& shape = c.first;
    const int groups = c.second;
    CAPTURE(shape.to_string());
    const Shape channels{shape[-1]};
    const Function f = [&](const Inputs& in) {
      return group_norm(in[0], groups, part(in, 1), part(in, 2), 1e-2);
    };
    check_both_gradients(f, {normal(shape), normal(channels), normal(channels)});
    check_both_gradients(f, {normal(shape)});
  }
  check_both_gradients([](const Inputs& in) { return instance_norm(in[0], in[1], in[2], 1e-2); },
                       {normal({2, 3, 4, 3}), normal({3}), normal({3})});
  // A bias without a weight.
  check_both_gradients([](const Inputs& in) { return group_norm(in[0], 2, {}, in[1], 1e-2); },
                       {normal({2, 3, 4}), normal({4})});
}

TEST_CASE("layer norm: one op says the same as the other") {
  const Tensor x = normal({3, 5, 7, 6});
  CHECK(largest_difference(instance_norm(x), group_norm(x, 6)) == 0);
  CHECK(largest_difference(group_norm(x, 1), layer_norm(x, {5, 7, 6})) < 1e-12);
  // An offset of the input, however large, is taken off.
  const Tensor f = x.to(DType::f32), far = affine(f, 1, 1000);
  CHECK(largest_difference(layer_norm(f, {6}), layer_norm(far, {6})) < 2e-3);
  Tensor y = f.clone();
  y.data<float>()[0] = NAN;
  const Tensor z = group_norm(y, 2);
  CHECK(std::isnan(z.at(1)));
  CHECK(std::isfinite(z.at(3)));
}

TEST_CASE("spectral norm: gradients, both ways on") {
  for (const bool outputs_last : {false, true})
    for (const Shape& shape : {Shape{3, 5}, Shape{4, 2, 3}}) {
      CAPTURE(outputs_last);
      CAPTURE(shape.to_string());
      const int last = shape.ndim() - 1;
      const int64_t outputs = outputs_last ? shape[last] : shape[0], others = shape.numel() / outputs;
      const Tensor u = nonzero({outputs}), v = nonzero({others});
      check_both_gradients(
          [&](const Inputs& in) {
            return spectral_norm(in[0], u, v, {.n_power_iterations = 0, .outputs_last = outputs_last});
          },
          {normal(shape)});
    }
}

TEST_CASE("spectral norm: what plain ops compute") {
  for (const DType dtype : {DType::f64, DType::f32})
    for (const bool outputs_last : {false, true})
      for (const int iterations : {0, 1, 2})
        for (const double eps : {1e-12, 100.0}) {
          CAPTURE(dtype);
          CAPTURE(outputs_last);
          CAPTURE(iterations);
          CAPTURE(eps);
          const Tensor weight = normal({outputs_last ? 6 : 5, 3, outputs_last ? 5 : 6}).to(dtype),
                       dy = normal(weight.shape()).to(dtype);
          weight.set_requires_grad();
          const Tensor u0 = normal({5}).to(dtype), v0 = normal({18}).to(dtype), u = u0.clone(),
                       v = v0.clone();
          const auto gradient = [&](const auto& f) {
            Tape tape;
            return tape.grad(f(), {weight}, {.grad_outputs = {dy}})[0];
          };
          Tensor y;
          const Tensor dw = gradient([&] {
            return y = spectral_norm(weight, u, v, {iterations, eps, outputs_last});
          });

          const auto matrix = [&] {
            return outputs_last ? permute(reshape(weight, {18, 5}), {1, 0}) : reshape(weight, {5, 18});
          };
          Tensor left = u0.view({5, 1}), right = v0.view({18, 1});
          const auto unit = [&](const Tensor& x) {
            return x / std::max(std::sqrt(sum(square(x)).item()), eps);
          };
          for (int i = 0; i < iterations; ++i) {
            const NoGrad none;
            right = unit(matmul(matrix(), left, {.transpose_a = true}));
            left = unit(matmul(matrix(), right));
          }
          Tensor expected;
          const Tensor expected_dw =
              gradient([&] { return expected = weight / sum(left * matmul(matrix(), right)); });
          const double tolerance = dtype == DType::f64 ? 1e-12 : 1e-5;
          const auto close = [&](const Tensor& a, const Tensor& b) {
            double size = 0;
            for (int64_t i = 0; i < b.numel(); ++i) size = std::max(size, std::abs(b.at(i)));
            return largest_difference(a, b) <= tolerance * size;
          };
          CHECK(close(u, left.view({5})));
          CHECK(close(v, right.view({18})));
          CHECK(close(y, expected));
          CHECK(close(dw, expected_dw));
        }
}

TEST_CASE("embedding: gradients, padding, indices kept for backward") {
  const Tensor index = Tensor::from<int64_t>({3, 0, 3, 1, 4, 3}, {2, 3});
  for (const std::optional<int64_t> padding : {std::optional<int64_t>(), std::optional<int64_t>(-2)}) {
    if (!padding)
      check_both_gradients([&](const Inputs& in) { return embedding(index, in[0]); }, {normal({5, 3})});
    const Tensor weight = normal({5, 3}).set_requires_grad();
    Tape tape;
    const Tensor own = index.clone();
    const Tensor y = embedding(own, weight, {.padding_idx = padding});
    own.fill(0);  // the caller's batch may change
    CHECK(y.shape() == Shape{2, 3, 3});
    tape.backward(sum(y));
    const double expected[] = {1, 1, 0, padding ? 0.0 : 3.0, 1};
    for (int64_t e = 0; e < 5; ++e) CHECK(weight.grad().at(e * 3) == expected[e]);
  }
  CHECK(embedding(i64({0, 2}), f32({3, 4})).shape() == Shape{0, 2, 4});
}

TEST_CASE("transposed convolutions and conv1d: gradients") {
  const ConvTransposeOptions options[] = {
      {},
      {.stride = 2, .padding = 1, .output_padding = 1},
      {.stride = 3, .padding = 1, .output_padding = 2, .dilation = 2, .groups = 2}};
  for (const ConvTransposeOptions& o : options) {
    check_both_gradients([&](const Inputs& in) { return conv_transpose2d(in[0], in[1], in[2], o); },
                         {normal({2, 3, 2, 2}), normal({2, 2, 3, 4 / o.groups}), normal({4})});
    check_both_gradients([&](const Inputs& in) { return conv_transpose1d(in[0], in[1], {}, o); },
                         {normal({2, 3, 2}), normal({2, 3, 4 / o.groups})});
  }
  check_both_gradients(
      [&](const Inputs& in) {
        return conv1d(in[0], in[1], in[2], {.stride = 2, .padding = 3, .dilation = 2, .groups = 2});
      },
      {normal({2, 5, 4}), normal({6, 3, 2}), normal({6})});
}

TEST_CASE("conv_transpose2d in f32 is the input's gradient of conv2d") {
  const Tensor w = normal({8, 3, 3, 16}).to(DType::f32), x = normal({2, 7, 5, 8}).to(DType::f32);
  const Tensor image = Tensor::zeros({2, 13, 9, 16}).set_requires_grad();
  const Tensor transposed = conv_transpose2d(x, w, {}, {.stride = 2, .padding = 1});
  Tape tape;
  const Tensor y = conv2d(image, w, {}, {.stride = 2, .padding = 1});
  REQUIRE(y.shape() == x.shape());
  tape.backward(y, x);
  CHECK(largest_difference(transposed, image.grad()) == 0);
}

namespace {

/// The op's result and the gradients of its inputs.
std::vector<Tensor> result_and_gradients(const std::function<Tensor(const Tensor&, const Tensor&)>& op,
                                         const Tensor& x, const Tensor& w) {
  Tape tape;
  const Tensor x_leaf = x.clone().set_requires_grad(), w_leaf = w.clone().set_requires_grad();
  const Tensor y = op(x_leaf, w_leaf);
  tape.backward(y, y.detach());
  return {y.detach(), x_leaf.grad(), w_leaf.grad()};
}

}  // namespace

TEST_CASE("a stride beyond the image, where there is one output, is as good as any") {
  const auto check_same = [](const auto& a, const auto& b) {
    for (size_t i = 0; i < a.size(); ++i) CHECK(largest_difference(a[i], b[i]) == 0);
  };
  for (const DType dtype : {DType::f32, DType::f64})
    for (const auto& c : {std::pair{3, 1}, {16, 1}, {4, 4}, {4, 2}}) {
      const int channels = c.first, groups = c.second;
      CAPTURE(channels);
      CAPTURE(groups);
      const Tensor x = normal({2, 5, 5, channels}).to(dtype);
      const Tensor w = normal({8, 3, 3, channels / groups}).to(dtype);
      const auto conv = [&](int64_t stride) {
        const Conv2dOptions o{.stride = stride, .padding = 1, .groups = groups};
        return result_and_gradients([&](auto& a, auto& b) { return conv2d(a, b, {}, o); }, x, w);
      };
      for (int64_t stride : {int64_t{10000}, int64_t{1000000000}, INT64_MAX})
        check_same(conv(stride), conv(7));
      const Tensor point = normal({2, 1, 1, 8}).to(dtype);
      const auto transposed = [&](int64_t stride) {
        const ConvTransposeOptions o{.stride = stride, .output_padding = 1, .groups = groups};
        return result_and_gradients([&](auto& a, auto& b) { return conv_transpose2d(a, b, {}, o); }, point,
                                    w);
      };
      for (int64_t stride : {int64_t{10000}, INT64_MAX}) check_same(transposed(stride), transposed(3));
    }
  // A dilation of a single tap, and windows of pooling.
  const Tensor x = normal({1, 5, 5, 4}), one = normal({4, 1, 1, 4});
  CHECK(largest_difference(conv2d(x, one, {}, {.dilation = INT64_MAX}), conv2d(x, one)) == 0);
  CHECK(largest_difference(max_pool2d(x, {.kernel = 3, .stride = 1000000000}),
                           max_pool2d(x, {.kernel = 3, .stride = 5})) == 0);
}

TEST_CASE("a stride over padding alone costs no time that grows with it") {
  for (const auto& [channels, groups] : {std::pair{3, 1}, {16, 1}, {4, 4}, {4, 2}}) {
    const Conv2dOptions o{.stride = 3000, .padding = 3000, .groups = groups};
    const auto conv = [&](const Tensor& x, const Tensor& w) { return conv2d(x, w, {}, o); };
    const Tensor x = normal({1, 5, 5, channels}), w = normal({8, 3, 3, channels / groups});
    const auto exact = result_and_gradients(conv, x, w);
    const auto fast = result_and_gradients(conv, x.to(DType::f32), w.to(DType::f32));
    CHECK(exact[0].shape() == Shape{1, 3, 3, 8});
    for (size_t i = 0; i < exact.size(); ++i)
      CHECK(largest_difference(exact[i], fast[i].to(DType::f64)) < 1e-3);
  }
}

TEST_CASE("narrow, split, stack and pad") {
  check_both_gradients([](const Inputs& in) { return narrow(in[0], 1, 1, 2); }, {normal({2, 4, 3})});
  check_both_gradients([](const Inputs& in) { return narrow(in[0], -1, 2, 1); }, {normal({2, 3})});
  check_both_gradients([](const Inputs& in) { return stack(in, 1); }, {normal({2, 3}), normal({2, 3})});
  check_both_gradients(
      [](const Inputs& in) {
        return stack({in[0], in[1]}, -1);
      },
      {normal({3}), normal({3})});
  check_both_gradients([](const Inputs& in) { return pad(in[0], {1, 0, 0, 2}); }, {normal({2, 3, 2})});
  check_both_gradients([](const Inputs& in) { return split(in[0], 2, 1).back(); }, {normal({2, 5})});
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(narrow(x, 1, 1, 2).to_vector<float>() == std::vector<float>{2, 3, 5, 6});
  CHECK(narrow(x, 0, 2, 0).shape() == Shape{0, 3});
  CHECK(stack({x, x}, 0).shape() == Shape{2, 2, 3});
  CHECK(pad(x, {1, 1}).to_vector<float>() == std::vector<float>{0, 1, 2, 3, 0, 0, 4, 5, 6, 0});
  CHECK(pad(Tensor::zeros({0, 3}), {INT64_MAX - 3, 0}).shape() == Shape{0, INT64_MAX});
  CHECK(split(Tensor::zeros({0, 3}), 2).size() == 1);  // as PyTorch: one without elements
  const auto pieces = split(x, 2, 1);
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[1].to_vector<float>() == std::vector<float>{3, 6});
}

TEST_CASE("masked softmax and attention: gradients") {
  const Tensor padding = Tensor::from<uint8_t>({0, 1, 0, 0, 0, 0, 1, 1}, {2, 4});
  Tensor added = normal({3, 4});
  added.data<double>()[1] = -INFINITY;
  const AttentionMask masks[] = {{},
                                 {.is_causal = true},
                                 {.key_padding_mask = padding},
                                 {.attn_mask = added},
                                 {.attn_mask = added, .key_padding_mask = padding, .is_causal = true}};
  for (const AttentionMask& mask : masks) {
    check_both_gradients([&](const Inputs& in) { return masked_softmax(in[0], mask, 0.7); },
                         {normal({2, 3, 4})});
    check_both_gradients(
        [&](const Inputs& in) {
          Generator same(3);
          return scaled_dot_product_attention(in[0], in[1], in[2],
                                              {.mask = mask, .dropout_p = 0.3, .generator = &same});
        },
        {normal({2, 2, 3, 5}), normal({2, 2, 4, 5}), normal({2, 2, 4, 3})});
  }
  const Tensor x = normal({3, 5});
  CHECK(largest_difference(masked_softmax(x), softmax(x)) < 1e-15);
}

TEST_CASE(
    "attention: a query with nothing left gives 0 and has no gradient, keys left out may hold anything") {
  const Tensor padding = Tensor::from<uint8_t>({1, 1, 1, 0, 1, 0}, {2, 3});
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor q = normal({2, 1, 2, 4}).to(dtype).set_requires_grad(), k = normal({2, 1, 3, 4}).to(dtype),
                 v = normal({2, 1, 3, 2}).to(dtype);
    Tensor weights;
    Tape tape;
    const Tensor y = scaled_dot_product_attention(q, k, v, {.mask = {.key_padding_mask = padding}}, &weights);
    for (int64_t i = 0; i < 4; ++i) CHECK(y.at(i) == 0);
    CHECK(weights.shape() == Shape{2, 1, 2, 3});
    CHECK(weights.at(7) == 0);
    CHECK(weights.at(6) + weights.at(8) == doctest::Approx(1));
    tape.backward(sum(y));
    for (int64_t i = 0; i < 8; ++i) CHECK(q.grad().at(i) == 0);
    for (int64_t i = 8; i < 16; ++i) CHECK(std::isfinite(q.grad().at(i)));
  }
  Tensor x = f32({2, 3});
  x.data<float>()[1] = NAN, x.data<float>()[2] = INFINITY;
  const Tensor y = masked_softmax(x, {.is_causal = true});
  CHECK(y.at(0) == 1);
  CHECK(std::isnan(y.at(3)) == false);
  CHECK(y.at(3) == doctest::Approx(0.5));
}

TEST_CASE("the same bits for any number of threads") {
  const Tensor x = normal({40, 33, 96}).to(DType::f32), w = normal({96}).to(DType::f32),
               table = normal({300, 96}).to(DType::f32);
  Tensor index = Tensor::empty({4000}, DType::i64);
  for (int64_t i = 0; i < 4000; ++i) index.data<int64_t>()[i] = i * i % 300;
  check_same_bits_on_threads({x, w, table}, [&] {
    return sum(square(layer_norm(x, {96}, w, w))) + sum(square(group_norm(x, 4, w, w))) +
           sum(square(embedding(index, table)));
  });
}

TEST_CASE("errors name the op, what it was given and the mend") {
  CHECK_ERROR(spectral_norm(f32({3}), f32({3}), f32({1})),
              "spectral_norm: expected a weight of two dimensions");
  CHECK_ERROR(spectral_norm(f32({0, 3}), f32({0}), f32({3})), "spectral_norm: expected a weight");
  CHECK_ERROR(spectral_norm(f32({3, 2, 4}), f32({3}), f32({4})),
              "u [3] and v [4] don't fit the weight [3, 2, 4]; expected [3] and [8]");
  CHECK_ERROR(spectral_norm(f32({3, 2, 4}), f32({3}), f32({8}), {.outputs_last = true}),
              "expected [4] and [6]");
  CHECK_ERROR(spectral_norm(f32({3, 2}), f64({3}), f32({2})),
              "spectral_norm: operands are f32 [3, 2] and f64");
  CHECK_ERROR(spectral_norm(i64({3, 2}), i64({3}), i64({2})), "spectral_norm: dtype i64");
  CHECK_ERROR(layer_norm(f32({2, 3}), {4}),
              "layer_norm: the last sizes of the input [2, 3] must be the normalized_shape [4]");
  CHECK_ERROR(layer_norm(f32({3}), {2, 3}), "normalized_shape [2, 3]");
  CHECK_ERROR(layer_norm(f32({2, 3}), {}), "normalized_shape []");
  CHECK_ERROR(layer_norm(f32({0, 3}), {3}), "[0, 3]");
  CHECK_ERROR(layer_norm(f32({2, 3}), {3}, f32({2})), "layer_norm: weight has shape [2]");
  CHECK_ERROR(layer_norm(f32({2, 3}), {3}, f32({3}), f64({3})), "bias is f64 but beside an input of f32");
  CHECK_ERROR(group_norm(f32({2, 3, 6}), 4),
              "group_norm: 6 channels of the input [2, 3, 6] can't be split into 4 groups");
  CHECK_ERROR(group_norm(f32({2, 3, 6}), 0), "0 groups");
  CHECK_ERROR(group_norm(f32({6}), 2), "expected a non-empty input [N, ..., C]");
  CHECK_ERROR(group_norm(i64({2, 6}), 2), "dtype i64");
  CHECK_ERROR(instance_norm(f32({2, 6})), "more than one element per sample and channel");
  CHECK_ERROR(embedding(f32({2}), f32({3, 4})), "embedding: the index is f32 [2]; it must be i64");
  CHECK_ERROR(embedding(i64({2}), f32({3})), "expected a weight [entries, width]");
  CHECK_ERROR(embedding(Tensor::full({2}, 3, DType::i64), f32({3, 4})),
              "embedding: index 3 at position 0 of [2] is not one of the 3 in dimension 0 of [3, 4]");
  CHECK_ERROR(embedding(Tensor::full({2}, -1, DType::i64), f32({3, 4})), "index -1");
  CHECK_ERROR(embedding(i64({2}), f32({3, 4}), {.padding_idx = 3}), "padding_idx 3");
  CHECK_ERROR(conv_transpose2d(f32({1, 4, 4, 3}), f32({4, 3, 3, 2})),
              "conv_transpose2d: input has 3 channels but weight [4, 3, 3, 2] expects 4");
  CHECK_ERROR(conv_transpose2d(f32({4, 4, 3}), f32({3, 3, 3, 2})), "expected input and weight [N, H, W, C]");
  CHECK_ERROR(conv_transpose2d(f32({1, 4, 4, 3}), f32({3, 3, 3, 2}), {}, {.output_padding = 1}),
              "output_padding 1 must be at least 0 and smaller than the stride 1");
  CHECK_ERROR(conv_transpose2d(f32({1, 1, 1, 3}), f32({3, 1, 1, 2}), {}, {.padding = 1}), "leaves nothing");
  CHECK_ERROR(conv_transpose2d(f32({1, 4, 4, 3}), f32({3, 3, 3, 2}), f32({3})), "bias [3] does not fit");
  CHECK_ERROR(conv_transpose2d(f32({1, 4, 4, 3}), f32({3, 3, 3, 2}), {}, {.groups = 2}),
              "3 input channels can't be split");
  CHECK_ERROR(conv_transpose1d(f32({1, 4, 4, 3}), f32({3, 3, 2})), "expected input and weight [N, L, C]");
  CHECK_ERROR(conv1d(f32({1, 4, 4, 3}), f32({3, 3, 2})), "conv1d: expected input [N, L, C]");
  CHECK_ERROR(conv1d(f32({1, 4, 3}), f32({3, 3, 3}), {}, {.padding = -1}), "-1");
  CHECK_ERROR(conv1d(f32({1, 4, 3}), f32({3, 3, 2})),
              "conv1d: input has 3 channels but weight [3, 3, 2] with groups 1 expects 2");
  CHECK_ERROR(conv1d(f32({1, 4, 3}), f32({3, 3, 3}), {}, {.padding = INT64_MAX}), "pad it by less");
  for (const ConvTransposeOptions& o : {ConvTransposeOptions{.stride = INT64_MAX},
                                        {.stride = INT64_MAX, .output_padding = INT64_MAX - 1},
                                        {.dilation = INT64_MAX},
                                        {.dilation = int64_t{1} << 62}}) {
    CHECK_ERROR(conv_transpose2d(f32({1, 4, 4, 3}), f32({3, 3, 3, 2}), {}, o), "conv_transpose2d: stride");
    CHECK_ERROR(conv_transpose1d(f32({1, 4, 3}), f32({3, 3, 2}), {}, o), "too large; choose smaller ones");
  }
  CHECK_ERROR(conv_transpose2d(f32({1, 4, 4, 3}), f32({3, 3, 3, 2}), {}, {.padding = INT64_MAX}),
              "leaves nothing");
  CHECK_ERROR(narrow(f32({2, 3}), 1, 2, 2),
              "narrow: 2 elements from 2 on are not in dimension 1 of shape [2, 3]");
  CHECK_ERROR(narrow(f32({2, 3}), 2, 0, 1), "out of range");
  CHECK_ERROR(narrow(f32({2, 3}), 0, INT64_MAX, INT64_MAX), "narrow");
  CHECK_ERROR(stack({}), "stack: no tensors");
  CHECK_ERROR(stack({f32({2}), f32({3})}), "stack: shapes [2] and [3] differ");
  CHECK_ERROR(stack({f32({2})}, 2), "dimension 2");
  CHECK_ERROR(split(f32({2}), 0), "split: pieces of 0");
  CHECK_ERROR(pad(f32({2}), {1}), "pad: 1 sizes given");
  CHECK_ERROR(pad(f32({2}), {0, -1}), "must not be negative");
  CHECK_ERROR(
      pad(f32({1024}), {INT64_MAX, INT64_MAX}),
      "pad: dimension 0 of shape [1024] with 9223372036854775807 and 9223372036854775807 around it is "
      "larger than a tensor can be; pad it by less");
  CHECK_ERROR(pad(f32({1024}), {INT64_MAX, 0}), "pad it by less");
  CHECK_ERROR(pad(f32({2, 1024}), {INT64_MAX / 2, 0}), "too many elements");
  CHECK_ERROR(masked_softmax(f32({2})), "expected scores [L, S]");
  CHECK_ERROR(masked_softmax(f32({2, 3}), {.attn_mask = f32({2, 4})}),
              "attn_mask [2, 4] does not fit scores [2, 3]");
  CHECK_ERROR(masked_softmax(f32({2, 3}), {.attn_mask = i64({2, 3})}), "attn_mask is i64");
  CHECK_ERROR(masked_softmax(f32({4, 2, 3}), {.key_padding_mask = Tensor::zeros({4, 2}, DType::u8)}),
              "expected u8 [4, 3]");
  CHECK_ERROR(scaled_dot_product_attention(f32({1, 2, 3}), f32({1, 2, 4}), f32({1, 2, 4})),
              "scaled_dot_product_attention: q [1, 2, 3], k [1, 2, 4]");
  CHECK_ERROR(scaled_dot_product_attention(f32({2, 3}), f32({2, 3}), f32({2, 3})), "don't fit");
}
