// Second derivatives of whole computations against values by torch.autograd (golden/gradgrad.safetensors).
#include <doctest/doctest.h>

#include <functional>
#include <map>

#include "support/golden.h"
#include "weft/weft.h"

using namespace weft;

namespace {

using Values = std::map<std::string, Tensor>;
using Loss = std::function<Tensor(Values&)>;

Tensor normalized(const Tensor& x, const Tensor& w, const Tensor& b, Activation act,
                  const Tensor& residual = {}) {
  const Tensor mean = Tensor::zeros(w.shape(), x.dtype()), var = Tensor::ones(w.shape(), x.dtype());
  return batch_norm(x, w, b, mean, var, true, {.activation = act}, residual);
}

const std::map<std::string, Loss> losses = {
    {"mlp",
     [](Values& v) {
       const Tensor y = linear(weft::tanh(linear(v["x"], v["w1"], v["b1"])), v["w2"], v["b2"]);
       return cross_entropy(y, Tensor::from<int64_t>({2, 0, 1}, {3}), {.label_smoothing = 0.1});
     }},
    {"convnet",
     [](Values& v) {
       const Tensor y = normalized(conv2d(v["x"], v["w1"], {}, {.stride = 2, .padding = 1}), v["g1"], v["b1"],
                                   Activation::mish);
       const Tensor side = avg_pool2d(y, {.kernel = 2, .ceil_mode = true, .count_include_pad = false});
       const Tensor z = normalized(conv2d(y, v["w2"], {}, {.stride = 2, .padding = 1, .groups = 2}), v["g2"],
                                   v["b2"], Activation::mish, side);
       return cross_entropy(linear(global_avg_pool(z), v["head"]), Tensor::from<int64_t>({2, 0, 1, 1}, {4}),
                            {.label_smoothing = 0.1});
     }},
    {"maxpool",
     [](Values& v) {
       const Tensor y = max_pool2d(sigmoid(conv2d(v["x"], v["w1"], v["b1"], {.padding = 1, .dilation = 2})),
                                   {.kernel = 3, .stride = 2, .padding = 1});
       return mean(square(log_softmax(linear(flatten(y), v["head"]))));
     }},
    {"attention",
     [](Values& v) {
       const Tensor& x = v["x"];
       const auto times = [&](const Tensor& w) { return linear(x, permute(w, {1, 0})); };
       const Tensor p = softmax(bmm(times(v["w"]), times(v["v"]), {.transpose_b = true}) / 2);
       const Tensor y = concat({bmm(p, x), reshape(permute(x, {0, 2, 1}), {2, 5, 3})}, 2);
       return sqrt(mean(exp(amax(y, {2}) * sum(maximum(y, -y / 2.0), {2}))));
     }},
};

const std::map<std::string, std::vector<std::pair<std::string, Shape>>> shapes = {
    {"mlp", {{"x", {3, 5}}, {"w1", {7, 5}}, {"b1", {7}}, {"w2", {4, 7}}, {"b2", {4}}}},
    {"convnet",
     {{"x", {4, 7, 6, 2}},
      {"w1", {4, 3, 3, 2}},
      {"g1", {4}},
      {"b1", {4}},
      {"w2", {4, 3, 3, 2}},
      {"g2", {4}},
      {"b2", {4}},
      {"head", {3, 4}}}},
    {"maxpool", {{"x", {2, 6, 5, 2}}, {"w1", {3, 3, 3, 2}}, {"b1", {3}}, {"head", {4, 12}}}},
    {"attention", {{"x", {2, 5, 3}}, {"w", {3, 4}}, {"v", {3, 4}}}},
};

/// mean (|rows of g| - 1)^2, the penalty of WGAN-GP.
Tensor penalty_of(const Tensor& g) {
  const Tensor norm = sqrt(sum(square(flatten(g)), {1}) + 1e-12);
  return mean(square(norm - 1.0));
}

void compare(DType dtype, const golden::Tolerance& tolerance) {
  const auto cases = golden::load("gradgrad.safetensors", DType::f64);
  REQUIRE(cases.size() == losses.size());
  for (const golden::Case& c : cases) {
    CAPTURE(c.name());
    Values values;
    std::vector<Tensor> list, along;
    for (const auto& [name, shape] : shapes.at(c.name())) {
      list.push_back(golden::normals(c.name() + "/" + name, shape, dtype, 0.5).set_requires_grad());
      along.push_back(golden::normals(c.name() + "/along." + name, shape, dtype));
      values[name] = list.back();
    }
    const auto same = [&](const std::string& name, const Tensor& actual) {
      CAPTURE(name);
      const std::string difference = golden::difference(actual, c.expected(name), tolerance);
      CHECK_MESSAGE(difference.empty(), difference);
    };
    const Loss& f = losses.at(c.name());
    const HvpResult r = hvp([&] { return f(values); }, list, along);
    Tape tape;
    const Tensor penalty = penalty_of(tape.grad(f(values), {values["x"]}, {.create_graph = true})[0]);
    tape.backward(penalty);
    same("out", r.value);
    same("expect.penalty", penalty);
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string& name = shapes.at(c.name())[i].first;
      same("grad." + name, r.gradient[i]);
      same("expect.product." + name, r.product[i]);
      same("expect.penalty." + name,
           list[i].grad().defined() ? list[i].grad() : Tensor::zeros(list[i].shape(), dtype));
    }
  }
}

}  // namespace

TEST_CASE("second derivatives are PyTorch's, in f64") { compare(DType::f64, {.rtol = 1e-9, .atol = 1e-11}); }
TEST_CASE("second derivatives are PyTorch's, in f32") { compare(DType::f32, {.rtol = 2e-3, .atol = 1e-4}); }
