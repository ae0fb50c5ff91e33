// Layers for sequences and normalisation: names of state, starts, modes, descriptions, files, errors; and
// that a small transformer learns.
#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <thread>
#include <vector>

#include "support/errors.h"
#include "support/gradients.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::test;

namespace {

std::vector<std::string> names_of(const Module& m) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : m.state_dict()) names.push_back(name);
  return names;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  double d = 0;
  for (int64_t i = 0; i < a.numel(); ++i) d = std::max(d, std::abs(a.at(i) - b.at(i)));
  return d;
}

double largest(const Tensor& t) { return largest_difference(t, Tensor::zeros(t.shape())); }

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("LayerNorm, GroupNorm, InstanceNorm2d: state, starts, descriptions") {
  Module root;
  Generator g(1);
  LayerNorm layer{root, "layer", 5}, shaped{root, "shaped", std::vector<int64_t>{3, 5}, {.bias = false}},
      bare{root, "bare", 5, {.elementwise_affine = false}};
  GroupNorm group{root, "group", 2, 6};
  InstanceNorm2d instance{root, "instance", 6}, affine_one{root, "affine", 6, {.affine = true}};
  CHECK(names_of(layer) == Names{"weight", "bias"});
  CHECK(names_of(shaped) == Names{"weight"});
  CHECK(shaped.weight.shape() == Shape{3, 5});
  CHECK(names_of(bare).empty());
  CHECK(names_of(instance).empty());
  CHECK(names_of(affine_one) == Names{"weight", "bias"});
  CHECK(layer.description() == "LayerNorm(5)");
  CHECK(shaped.description() == "LayerNorm(3, 5)");
  CHECK(bare.description() == "LayerNorm(5, no affine)");
  CHECK(group.description() == "GroupNorm(2, 6)");
  CHECK(instance.description() == "InstanceNorm2d(6)");
  const Tensor x = Tensor::normal({4, 3, 5}, 2, 3, g), image = Tensor::normal({2, 4, 3, 6}, 0, 1, g);
  CHECK(largest_difference(layer(x), bare(x)) == 0);
  const Tensor y = layer(x), one = narrow(reshape(y, {12, 5}), 0, 7, 1);
  CHECK(std::abs(mean(one).item()) < 1e-6);
  CHECK(mean(square(one)).item() == doctest::Approx(1).epsilon(1e-4));
  CHECK(largest_difference(instance(image), affine_one(image)) == 0);
  const Tensor before = group(image);
  root.eval();
  CHECK(largest_difference(before, group(image)) == 0);
  CHECK_ERROR(group(x), "GroupNorm: x has shape [4, 3, 5] but [N, ..., C] with C = 6");
  CHECK_ERROR(instance(x), "InstanceNorm2d: x has shape");
  CHECK_ERROR(layer(image), "layer_norm: the last sizes of the input");
  CHECK_ERROR(GroupNorm(root, "wrong", 4, 6), "GroupNorm wrong: 6 channels can't be split into 4 groups");
  CHECK_ERROR(LayerNorm(root, "wrong", 0), "LayerNorm wrong: size 0");
  CHECK_ERROR(InstanceNorm2d(root, "wrong", 0), "InstanceNorm2d wrong: 0 channels");
}

TEST_CASE("Embedding: starts normal, the padding row 0 and without gradient") {
  Module root;
  Generator g(2);
  Embedding table{root, "table", 50, 40, {.padding_idx = -50}, g};
  CHECK(table.description() == "Embedding(50, 40, padding 0)");
  CHECK(largest(narrow(table.weight.detach(), 0, 0, 1)) == 0);
  CHECK(mean(square(narrow(table.weight.detach(), 0, 1, 49))).item() == doctest::Approx(1).epsilon(0.1));
  Tape tape;
  tape.backward(sum(table(Tensor::from<int64_t>({0, 3, 3}, {3}))));
  CHECK(table.weight.grad().at(0) == 0);
  CHECK(table.weight.grad().at(3 * 40) == 2);
  CHECK_ERROR(Embedding(root, "wrong", 5, 2, {.padding_idx = 5}), "padding_idx 5");
  CHECK_ERROR(Embedding(root, "wrong", 0, 2), "0 entries of 2 numbers");
  CHECK_ERROR(table(Tensor::full({1}, 50, DType::i64)), "index 50");
}

TEST_CASE("ConvTranspose2d, ConvTranspose1d, Conv1d: shapes, starts, descriptions") {
  Module root;
  Generator g(3);
  ConvTranspose2d up{root, "up", 6, 4, {.kernel = 4, .stride = 2, .padding = 1, .groups = 2}, g};
  CHECK(up.weight.shape() == Shape{6, 4, 4, 2});
  CHECK(up(Tensor::ones({2, 5, 3, 6})).shape() == Shape{2, 10, 6, 4});
  CHECK(up.description() == "ConvTranspose2d(6, 4, kernel 4, stride 2, padding 1, groups 2)");
  const double bound = 1 / std::sqrt(4 * 4 * 2.0);
  CHECK(largest(up.weight) <= bound);
  CHECK(largest(up.weight) > 0.9 * bound);
  CHECK(largest(up.bias) <= bound);
  ConvTranspose1d line{root, "line", 3, 5, {.stride = 3, .output_padding = 1, .bias = false}, g};
  CHECK(names_of(line) == Names{"weight"});
  CHECK(line(Tensor::ones({2, 4, 3})).shape() == Shape{2, 13, 5});
  CHECK(line.description() == "ConvTranspose1d(3, 5, kernel 3, stride 3, output padding 1, no bias)");
  Conv1d conv{root, "conv", 4, 6, {.kernel = 5, .stride = 2, .padding = 2, .groups = 2}, g};
  CHECK(conv.weight.shape() == Shape{6, 5, 2});
  CHECK(conv(Tensor::ones({3, 9, 4})).shape() == Shape{3, 5, 6});
  CHECK(conv.description() == "Conv1d(4, 6, kernel 5, stride 2, padding 2, groups 2)");
  CHECK(largest(conv.weight) <= 1 / std::sqrt(5 * 2.0));
  CHECK_ERROR(ConvTranspose2d(root, "wrong", 6, 4, {.output_padding = 1}), "output_padding 1");
  CHECK_ERROR(ConvTranspose2d(root, "wrong", 6, 4, {.groups = 4}), "can't be split into 4 groups");
  CHECK_ERROR(Conv1d(root, "wrong", 0, 4), "0 input and 4 output channels");
  CHECK_ERROR(Conv1d(root, "wrong", 4, 4, {.kernel = 0}), "kernel 0");
}

TEST_CASE("SpectralNorm: the largest singular value becomes 1, by steps in training alone") {
  Module root;
  Generator g(4);
  SpectralNorm<Conv2d> conv{root, "conv", 3, 5, {.kernel = 3}, g, {.n_power_iterations = 3}};
  CHECK(names_of(conv) == Names{"weight", "bias", "u", "v"});
  CHECK(conv.v.shape() == Shape{27});
  CHECK(conv.description() == "spectral Conv2d(3, 5, kernel 3)");
  const Tensor x = Tensor::normal({2, 6, 6, 3}, 0, 1, g);
  for (int i = 0; i < 60; ++i) conv(x);
  root.eval();
  const Tensor u = conv.u.clone();
  const Tensor w = conv.normalized_weight();
  CHECK(largest_difference(u, conv.u) == 0);
  CHECK(largest_difference(conv(x), conv2d(x, w, conv.bias)) == 0);
  // Of W W^T, whose largest eigenvalue is the square: power iteration by hand.
  const Tensor m = w.detach().view({5, 27});
  Tensor vector = Tensor::ones({5, 1});
  double norm = 0;
  for (int i = 0; i < 300; ++i) {
    const Tensor next = matmul(matmul(m, m, {.transpose_b = true}), vector);
    norm = std::sqrt(sum(square(next)).item());
    vector = next / norm;
  }
  CHECK(std::sqrt(norm) == doctest::Approx(1).epsilon(1e-4));
  // Through the plain layer's interface too, and the weight is back behind it.
  Module& plain = conv;
  const Tensor own = conv.weight;
  CHECK(largest_difference(plain(x), conv(x)) == 0);
  CHECK(conv.weight.is(own));
  CHECK_ERROR(SpectralNorm<Linear>(root, "wrong", 2, 2, {}, g, {.n_power_iterations = 0}),
              "0 power iterations");
  CHECK_ERROR(conv(Tensor::ones({2, 6, 6, 4})), "conv2d: input has 4 channels");
  CHECK(conv.weight.is(own));  // also behind an error
}

TEST_CASE("SpectralNorm and WeightNorm: gradients, both ways on") {
  for (const bool spectral : {true, false}) {
    CAPTURE(spectral);
    Module root;
    Generator g(5);
    SpectralNorm<ConvTranspose2d> one{root, "one", 2, 3, {.kernel = 2}, g};
    WeightNorm<Conv1d> two{root, "two", 2, 3, {.kernel = 2}, g};
    root.to(DType::f64);
    root.eval();  // a pure function
    Module& layer = spectral ? static_cast<Module&>(one) : two;
    Inputs inputs{spectral ? normal({2, 3, 2, 2}) : normal({2, 4, 2})};
    for (const Parameter& p : layer.parameters()) inputs.push_back(p.tensor);
    const GradcheckResult result =
        gradcheck([&](const Inputs& in) { return mish(layer(affine(in[0], 1.5))); }, inputs);
    CHECK_MESSAGE(result.ok, result.message);
    const GradcheckResult twice =
        gradgradcheck([&](const Inputs& in) { return mish(layer(affine(in[0], 1.5))); }, inputs);
    CHECK_MESSAGE(twice.ok, twice.message);
  }
  Module root;
  Generator g(6);
  WeightNorm<Linear> layer{root, "layer", 4, 3, {}, g};
  CHECK(names_of(layer) == Names{"weight", "bias", "g"});
  CHECK(layer.g.shape() == Shape{3, 1});
  CHECK(largest_difference(layer.normalized_weight(), layer.weight) < 1e-6);  // it starts where it was
  CHECK(layer.description() == "weight-normed Linear(4, 3)");
}

TEST_CASE("SelfAttention: starts as the identity, gradients, errors") {
  Module root;
  Generator g(7);
  SelfAttention layer{root, "sa", 16, g};
  CHECK(names_of(layer) == Names{"gamma", "query.weight", "query.u", "query.v", "key.weight", "key.u",
                                 "key.v", "value.weight", "value.u", "value.v"});
  CHECK(layer.query.weight.shape() == Shape{2, 16});
  CHECK(layer.description() == "SelfAttention(16)");
  const Tensor x = Tensor::normal({2, 3, 2, 16}, 0, 1, g);
  CHECK(largest_difference(layer(x), x) == 0);
  CHECK_ERROR(layer(Tensor::ones({2, 3, 2, 8})), "SelfAttention: x has shape [2, 3, 2, 8]");
  CHECK_ERROR(SelfAttention(root, "wrong", 7, g), "7 inputs and 0 outputs");
  root.to(DType::f64);
  root.eval();
  layer.gamma.fill(0.7);
  Inputs inputs{normal({1, 2, 2, 16})};
  for (const Parameter& p : layer.parameters()) inputs.push_back(p.tensor);
  inputs[0].set_requires_grad();
  const GradcheckResult result =
      gradcheck([&](const Inputs& in) { return mish(layer(affine(in[0], 1.5))); }, inputs);
  CHECK_MESSAGE(result.ok, result.message);
}

TEST_CASE("MultiheadAttention: state, weights, causal order, dropout, gradients, errors") {
  Module root;
  Generator g(8);
  MultiheadAttention mha{root, "mha", 6, 3, {.dropout = 0.5}, g};
  CHECK(names_of(mha) == Names{"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"});
  CHECK(largest(mha.in_proj_bias) == 0);
  CHECK(largest(mha.out_proj.bias) == 0);
  CHECK(largest(mha.in_proj_weight) <= std::sqrt(6.0 / (6 + 18)));
  CHECK(mha.description() == "MultiheadAttention(6, heads 3)");
  Tensor x = Tensor::normal({2, 4, 6}, 0, 1, g);
  CHECK(largest_difference(mha(x), mha(x)) > 0);  // drops others each time
  root.eval();
  CHECK(largest_difference(mha(x), mha(x)) == 0);
  Tensor weights;
  const Tensor y = mha(x, x, x, {.is_causal = true}, &weights);
  CHECK(weights.shape() == Shape{2, 3, 4, 4});
  CHECK(weights.at(1) == 0);
  x = x.clone();
  for (int64_t i = 0; i < 6; ++i) x.data<float>()[3 * 6 + i] = 9;  // the last of the first sample
  const Tensor z = mha(x, x, x, {.is_causal = true});
  CHECK(largest_difference(narrow(y, 1, 0, 3), narrow(z, 1, 0, 3)) == 0);
  CHECK(largest_difference(y, z) > 0);
  // A query with nothing left: the bias of the output.
  mha.out_proj.bias.fill(0.25);
  const Tensor all = Tensor::ones({2, 4}, DType::u8);
  CHECK(largest_difference(mha(x, x, x, {.key_padding_mask = all}), Tensor::full({2, 4, 6}, 0.25)) == 0);
  CHECK(mha(x, Tensor::ones({2, 7, 6}), Tensor::ones({2, 7, 6})).shape() == Shape{2, 4, 6});

  MultiheadAttention none{root, "none", 6, 3, {.dropout = 1}, g};
  CHECK(largest(none(x)) == 0);
  none.eval();
  CHECK(largest(none(x)) > 0);

  MultiheadAttention cross{root, "cross", 6, 3, {.bias = false, .vdim = 4}, g};
  CHECK(names_of(cross) == Names{"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"});
  CHECK(cross.k_proj_weight.shape() == Shape{6, 6});
  CHECK(cross.v_proj_weight.shape() == Shape{6, 4});
  CHECK(largest(cross.v_proj_weight) <= std::sqrt(6.0 / (6 + 4)));
  CHECK(cross.description() == "MultiheadAttention(6, heads 3, kdim 6, vdim 4, no bias)");
  CHECK_ERROR(cross(x), "the value has shape [2, 4, 6] but [N, L, E] with E = 4");
  CHECK_ERROR(MultiheadAttention(root, "wrong", 6, 3, {.kdim = -1}), "kdim -1");

  CHECK_ERROR(MultiheadAttention(root, "wrong", 6, 4), "6 channels can't be cut into 4 heads");
  CHECK_ERROR(MultiheadAttention(root, "wrong", 6, 3, {.dropout = 1.5}), "dropout 1.5");
  CHECK_ERROR(mha(Tensor::ones({4, 6})), "the query has shape [4, 6] but [N, L, E] with E = 6");
  CHECK_ERROR(mha(x, x, Tensor::ones({2, 5, 6})), "don't fit");

  root.to(DType::f64);
  Inputs inputs{normal({2, 3, 6}), normal({2, 2, 6})};
  for (const Parameter& p : mha.parameters()) inputs.push_back(p.tensor);
  for (const Tensor& t : inputs) t.set_requires_grad();
  const Function f = [&](const Inputs& in) {
    return mish(mha(affine(in[0], 1.5), in[1], in[1], {.is_causal = true}));
  };
  const GradcheckResult result = gradcheck(f, inputs);
  CHECK_MESSAGE(result.ok, result.message);
}

TEST_CASE("TransformerEncoderLayer and TransformerEncoder: state, dropout, gradients, recomputation") {
  Module root;
  Generator g(9);
  const TransformerOptions options{.dim_feedforward = 5, .dropout = 0.4};
  TransformerEncoderLayer layer{root, "layer", 4, 2, options, g};
  CHECK(names_of(layer) == Names{"self_attn.in_proj_weight", "self_attn.in_proj_bias",
                                 "self_attn.out_proj.weight", "self_attn.out_proj.bias", "linear1.weight",
                                 "linear1.bias", "linear2.weight", "linear2.bias", "norm1.weight",
                                 "norm1.bias", "norm2.weight", "norm2.bias"});
  CHECK(layer.description() == "TransformerEncoderLayer(4, feed-forward 5, relu)");
  TransformerEncoder encoder{root, "encoder", 2, 4, 2, options, true, g};
  CHECK(names_of(encoder).front() == "layers.0.self_attn.in_proj_weight");
  CHECK(names_of(encoder).back() == "norm.bias");
  CHECK(names_of(encoder).size() == 2 * 12 + 2);
  CHECK(encoder.description() == "TransformerEncoder(2 layers)");
  const Tensor x = Tensor::normal({2, 3, 4}, 0, 1, g);
  CHECK(largest_difference(encoder(x), encoder(x)) > 0);
  {
    Tape tape;
    encoder(x);
    CHECK(tape.entries().front().scope == "encoder.layers.0.self_attn");
  }
  root.eval();
  CHECK(largest_difference(encoder(x), encoder(x)) == 0);
  int calls = 0;
  const auto hook = layer.self_attn.register_forward_hook([&](Module&, const Tensor&, const Tensor&) {
    ++calls;
    return Tensor();
  });
  layer(x, {.is_causal = true});
  CHECK(calls == 1);
  CHECK_ERROR(TransformerEncoder(root, "wrong", 0, 4, 2), "0 layers");

  root.to(DType::f64);
  for (const bool norm_first : {false, true}) {
    Module other;
    TransformerEncoderLayer one{
        other, "one", 4, 2, {.dim_feedforward = 3, .activation = Activation::gelu, .norm_first = norm_first},
        g};
    other.to(DType::f64);
    other.eval();
    Inputs inputs{normal({2, 3, 4})};
    for (const Parameter& p : one.parameters()) inputs.push_back(p.tensor);
    inputs[0].set_requires_grad();
    const Function f = [&](const Inputs& in) { return mish(one(affine(in[0], 1.5), {.is_causal = true})); };
    const GradcheckResult result = gradcheck(f, inputs);
    CHECK_MESSAGE(result.ok, result.message);
    const GradcheckResult twice = gradgradcheck(f, inputs);
    CHECK_MESSAGE(twice.ok, twice.message);
  }
}

TEST_CASE("recomputed layers of an encoder, and an encoder that is given a mask") {
  const auto run = [](bool layers, bool whole) {
    Module root;
    Generator g(9);
    TransformerEncoder encoder{root, "encoder", 2, 4, 2, {.dim_feedforward = 5, .dropout = 0.4}, true, g};
    encoder.recompute(whole);
    int calls = 0;  // of attention, in both runs
    std::vector<RemovableHandle> hooks;
    encoder.visit([&](const std::string&, Module& m) {
      if (dynamic_cast<TransformerEncoderLayer*>(&m)) m.recompute(layers);
      if (!dynamic_cast<MultiheadAttention*>(&m)) return;
      hooks.push_back(m.register_forward_hook([&](Module&, const Tensor&, const Tensor&) {
        ++calls;
        return Tensor();
      }));
    });
    const Tensor x = Tensor::normal({2, 3, 4}, 0, 1, g).set_requires_grad();
    {
      Tape tape;
      tape.backward(sum(square(encoder(x, {.is_causal = true}))));
    }
    std::vector<float> gradients = x.grad().to_vector<float>();
    for (const Parameter& p : encoder.parameters())
      for (float v : p.tensor.grad().to_vector<float>()) gradients.push_back(v);
    encoder.eval();
    const int before = calls;
    encoder(x, {});
    CHECK(calls == before + 2);
    return std::pair(gradients, before);
  };
  const auto [gradients, calls] = run(false, false);
  CHECK(calls == 2);
  CHECK(run(true, false) == std::pair(gradients, 4));
  CHECK(run(false, true) == std::pair(gradients, 4));
}

TEST_CASE("several threads may call one module in evaluation") {
  struct Both : Module {
    SpectralNorm<Linear> spectral{*this, "spectral", 6, 6};
    WeightNorm<Linear> normed{*this, "normed", 6, 6};
    SinusoidalPositions positions{*this, "positions"};
    Tensor forward(const Tensor& x) override { return normed(spectral(positions(x))); }
  };
  manual_seed(5);
  Both net;
  net.eval();
  std::vector<Tensor> inputs;
  std::vector<std::vector<float>> wanted;
  for (int64_t length = 1; length <= 20; ++length) {  // more than are kept
    inputs.push_back(Tensor::uniform({2, length, 6}, -1, 1));
    wanted.push_back(net(inputs.back()).to_vector<float>());
  }
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 200; ++i) {
        const size_t k = (i * (t + 1) + t) % inputs.size();
        wrong += net(inputs[k]).to_vector<float>() != wanted[k];
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
}

TEST_CASE("positions") {
  Module root;
  Generator g(10);
  LearnedPositions learned{root, "learned", 5, 4, g};
  SinusoidalPositions fixed{root, "fixed"};
  CHECK(names_of(root) == Names{"learned.weight"});
  const Tensor x = Tensor::zeros({2, 3, 4});
  CHECK(largest_difference(narrow(learned(x), 0, 1, 1),
                           reshape(narrow(learned.weight, 0, 0, 3), {1, 3, 4})) == 0);
  CHECK(fixed(x).at(4) == doctest::Approx(std::sin(1.0)));
  CHECK(fixed(x).at(5) == doctest::Approx(std::cos(1.0)));
  CHECK(fixed(Tensor::zeros({1, 6, 3})).shape() == Shape{1, 6, 3});
  CHECK_ERROR(learned(Tensor::zeros({2, 6, 4})), "with L up to 5");
  CHECK_ERROR(fixed(Tensor::zeros({6, 4})), "SinusoidalPositions: x has shape [6, 4]");
  CHECK_ERROR(sinusoidal_positions_2d(2, 2, 6), "6 channels");
}

TEST_CASE("VisionTransformer: sizes, class token, state in files, errors") {
  Generator g(11);
  const VisionTransformerOptions small{.patch = 4, .width = 16, .depth = 1, .heads = 2, .classes = 3};
  for (const bool token : {false, true}) {
    CAPTURE(token);
    VisionTransformerOptions o = small;
    o.class_token = token;
    VisionTransformer net(o, g), other(o, g);
    init::normal_(net.head.weight, 0, 1, g);
    const Tensor x = Tensor::normal({2, 8, 12, 3}, 0, 1, g);
    CHECK(net(x).shape() == Shape{2, 3});
    CHECK(net(Tensor::ones({1, 4, 4, 3})).shape() == Shape{1, 3});
    CHECK(largest_difference(net(x), other(x)) > 0);
    const std::string path =
        (std::filesystem::temp_directory_path() / weft::concat("weft-vit-", getpid())).string();
    save_safetensors(path, net.state_dict());
    other.load_state_dict(load_safetensors(path));
    std::filesystem::remove(path);
    CHECK(largest_difference(net(x), other(x)) == 0);
    CHECK_ERROR(net(Tensor::ones({2, 9, 8, 3})), "multiples of the patch 4");
    // Kept and computed again: the same bits.
    const auto gradient = [&](bool recompute) {
      net.encoder.recompute(recompute), net.zero_grad();
      Tape tape;
      tape.backward(sum(square(net(x))));
      return net.patches.weight.grad().clone();
    };
    CHECK(largest_difference(gradient(false), gradient(true)) == 0);
  }
  CHECK(VisionTransformer(small, g).description() == "VisionTransformer(patch 4, width 16, depth 1)");
  // ViT-Ti/16 without class token and learned positions: 5.53 M parameters with 1000 classes.
  VisionTransformer tiny({.classes = 1000}, g);
  CHECK(tiny.num_parameters() == 5717416 - 192 - 197 * 192);
}

TEST_CASE("TokenTransformer learns to add modulo 11 and to write a sequence backwards") {
  // Tokens: digits 0 .. 10, and 11 that asks.
  const auto train = [](TokenTransformer& net,
                        const std::function<std::pair<Tensor, Tensor>(Generator&)>& batch, int64_t first,
                        int most) {
    optim::Adam optimizer(net.parameters(), {.lr = 3e-3});
    Generator g(12);
    double right = 0;
    for (int step = 0; step < most && right < 0.995; ++step) {
      {
        const auto [tokens, targets] = batch(g);
        const int64_t n = tokens.size(0), length = tokens.size(1) - first;
        Tape tape;
        const Tensor logits = reshape(narrow(net(tokens), 1, first, length), {n * length, 12});
        tape.backward(cross_entropy(logits, targets));
        optimizer.step();
        optimizer.zero_grad();
      }
      if (step % 20 != 19) continue;
      const auto [fresh, wanted] = batch(g);
      const int64_t n = fresh.size(0), length = fresh.size(1) - first;
      const Tensor said = argmax(reshape(narrow(net(fresh), 1, first, length), {n * length, 12}));
      right = 0;
      for (int64_t i = 0; i < said.numel(); ++i)
        right += said.data<int64_t>()[i] == wanted.data<int64_t>()[i] ? 1.0 / double(said.numel()) : 0;
    }
    return right;
  };
  const auto draw = [](Generator& g, int64_t n) {
    const Tensor numbers = Tensor::uniform({n}, 0, 11, g);
    std::vector<int64_t> digits;
    for (int64_t i = 0; i < n; ++i) digits.push_back(std::min<int64_t>(10, int64_t(numbers.at(i))));
    return digits;
  };
  Generator g(13);
  TokenTransformer sums(12, {.max_length = 3, .width = 32, .depth = 1, .heads = 4}, g);
  CHECK(sums.description() == "TokenTransformer(12 tokens, width 32, depth 1, causal)");
  const double added = train(
      sums,
      [&](Generator& r) {
        const int64_t n = 128;
        const std::vector<int64_t> digits = draw(r, 2 * n);
        std::vector<int64_t> tokens, targets;
        for (size_t i = 0; i < digits.size(); i += 2) {
          tokens.insert(tokens.end(), {digits[i], digits[i + 1], 11});
          targets.push_back((digits[i] + digits[i + 1]) % 11);
        }
        return std::pair(Tensor::from(tokens, {n, 3}), Tensor::from(targets, {n}));
      },
      2, 2000);
  CHECK(added > 0.99);

  TokenTransformer backwards(12, {.max_length = 12, .width = 32, .depth = 2, .heads = 4}, g);
  const double reversed = train(
      backwards,
      [&](Generator& r) {
        const int64_t n = 64, length = 6;
        const std::vector<int64_t> digits = draw(r, n * length);
        std::vector<int64_t> tokens, targets;
        for (int64_t i = 0; i < n; ++i) {
          const auto first = digits.begin() + i * length;
          tokens.insert(tokens.end(), first, first + length);
          tokens.push_back(11);
          for (int64_t k = 0; k < length; ++k) targets.push_back(first[length - 1 - k]);
          tokens.insert(tokens.end(), targets.end() - length, targets.end() - 1);
        }
        return std::pair(Tensor::from(tokens, {n, 2 * length}), Tensor::from(targets, {n * length}));
      },
      6, 1500);
  CHECK(reversed > 0.99);
}
