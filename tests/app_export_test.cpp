// weft export: the graphs that it writes give what the model gives, run by an interpreter of the tests' own;
// the weights are PyTorch's; what can't be written is refused by name.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "support/command.h"
#include "support/errors.h"
#include "support/light.h"
#include "support/onnx_graph.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/onnx_model.h"
#include "weft/apps/weft/pytorch_state.h"
#include "weft/engine/eval_guard.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/ops/conv_transpose.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/normalization.h"
#include "weft/engine/ops/permuted.h"
#include "weft/engine/ops/pool.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/ops/split.h"
#include "weft/layers/layers.h"

using namespace weft;
using namespace weft::test;
namespace onnx_test = weft::test::onnx;
using nlohmann::json;

namespace {

/// Moves all of a model's state, so that nothing is left at a value that would hide a part of it.
void move_state(Module& model) {
  Generator generator(5);
  for (const auto& [name, t] : model.state_dict()) {
    const std::string last = name.substr(name.rfind('.') + 1);
    if (last == "u" || last == "v") continue;
    const NoGrad quiet;
    if (last == "running_var")
      t.copy_from(Tensor::uniform(t.shape(), 0.5, 1.5, generator));
    else
      t.copy_from(t + Tensor::normal(t.shape(), last == "weight" && t.ndim() == 1 ? 0.3 : 0,
                                     t.ndim() == 1 ? 0.1 : 0.01, generator));
  }
}

onnx_test::Model written(Module& model, int64_t channels, int64_t height, int64_t width) {
  const std::string file = at("graph.onnx");
  app::onnx::save(file, app::onnx::make_graph(model, channels, height, width));
  return onnx_test::read(read_file(file));
}

/// Largest difference between the model and its graph over batches of so many images, none of which was
/// traced, relative to the largest result.
double difference(Module& model, const onnx_test::Model& graph, const std::vector<int64_t>& batches = {1, 4},
                  double spread = 1) {
  const EvalGuard evaluation(model);
  const auto& sizes = graph.inputs.at("images");
  const int64_t channels = std::stoll(sizes.at(1)), height = std::stoll(sizes.at(2)),
                width = std::stoll(sizes.at(3));
  double worst = 0, largest = 0, moves = 0;  // moves: lest nothing of the images reaches the results
  for (const int64_t n : batches) {
    Generator generator(9);
    const Tensor x = Tensor::normal({n, height, width, channels}, 0, spread, generator), y = model(x),
                 other = model(x * 0.5);
    const std::vector<float> pixels = ops::permuted(x, {0, 3, 1, 2}).to_vector<float>();
    const auto out = run(graph, {{n, channels, height, width}, {pixels.begin(), pixels.end()}});
    REQUIRE(out.shape == std::vector<int64_t>(y.shape().begin(), y.shape().end()));
    for (size_t i = 0; i < out.data.size(); ++i) {
      const double expected = y.at(int64_t(i)), distance = std::abs(out.data[i] - expected);
      worst = distance <= worst ? worst : std::isnan(distance) ? INFINITY : distance;
      largest = std::max(largest, std::abs(expected));
      moves = std::max(moves, std::abs(expected - other.at(int64_t(i))));
    }
  }
  REQUIRE(moves > 1e-3 * largest);
  return worst / largest;
}
double difference(Module& model, int64_t channels, int64_t height, int64_t width) {
  return difference(model, written(model, channels, height, width));
}

int count(const onnx_test::Model& graph, const std::string& op) {
  return int(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const auto& n) { return n.op == op; }));
}

/// A model that is a function.
struct Function : Module {
  std::function<Tensor(const Tensor&)> f;
  explicit Function(std::function<Tensor(const Tensor&)> function) : f(std::move(function)) {}
  Tensor forward(const Tensor& x) override { return f(x); }
};

Tensor numbers(const Shape& shape, uint64_t seed) {
  Generator generator(seed);
  return Tensor::normal(shape, 0, 1, generator);
}

}  // namespace

TEST_CASE("graphs of the catalogue's families give the models' logits for any batch") {
  struct Case {
    const char* model;
    int64_t size;
    ModelOptions options;
    int transposes;
  };
  for (const Case& c :
       std::vector<Case>{{"resnet20", 9, {.activation = Activation::prelu}, 0},
                         {"resnet20v2", 8, {.activation = Activation::swish_beta}, 0},
                         {"resnet20", 8, {.activation = Activation::rrelu, .in_channels = 1}, 0},
                         {"vit-tiny", 32, {}, 61},
                         {"mlp", 8, {.in_channels = 1}, 1},
                         {"depth15", 10, {}, 1}}) {
    CAPTURE(c.model);
    ModelOptions own = c.options;
    own.image_size = c.size, own.classes = 3;
    const auto model = make_model(c.model, own);
    move_state(*model);
    const onnx_test::Model graph = written(*model, own.in_channels, c.size, c.size);
    CHECK(difference(*model, graph, light() ? std::vector<int64_t>{1} : std::vector<int64_t>{1, 4}) < 1e-5);
    CHECK(count(graph, "Transpose") == c.transposes);
    CHECK(graph.inputs.at("images") == std::vector<std::string>{"N", std::to_string(own.in_channels),
                                                                std::to_string(c.size),
                                                                std::to_string(c.size)});
    CHECK(graph.outputs.at("logits") == std::vector<std::string>{"N", "3"});
    CHECK(graph.opset == 17);
    CHECK(graph.ir_version == 8);
  }
}

TEST_CASE("so do those of the networks of blocks, one block a stage") {
  struct Case {
    XResNetPlan plan;
    int64_t size;
    XResNetOptions options;
  };
  for (Case c : std::vector<Case>{
           {xresnet_plan(18), 16, {.activation = Activation::mish, .self_attention = true}},
           {xresnet_plan(50),
            15,
            {.activation = Activation::srelu, .self_attention = true, .symmetric = true}},
           {trick_plan(18), 64, {}},
           {depthwise_plan(1), 64, {.activation = Activation::silu}},
           {resnext_plan(50, 16), 16, {.activation = Activation::prelu, .self_attention = true}}}) {
    CAPTURE(c.plan.name);
    c.plan.blocks = {1, 1, 1, 1}, c.options.classes = 2;
    XResNet model(c.plan, c.options);
    move_state(model);
    CHECK(difference(model, written(model, 3, c.size, c.size), {1}) < 1e-5);
  }
}

TEST_CASE("each activation's nodes give its values") {
  for (int i = 0; i < kAllActivationCount; ++i) {
    const auto activation = Activation(i);
    CAPTURE(activation_name(activation));
    struct Net : Module {
      explicit Net(Activation a) : act(*this, "act", a, std::nullopt, 5) {}
      ActivationLayer act;
      Tensor forward(const Tensor& x) override { return flatten(act(x + 0.1)) * 2.0 + act_of_rows(x); }
      /// The same on values whose channels are last.
      Tensor act_of_rows(const Tensor& x) { return flatten(act(reshape(x, {x.size(0), 80, 5}))); }
    } net(activation);
    for (const Parameter& p : net.parameters()) {  // another value for each channel
      const NoGrad quiet;
      p.tensor.copy_from(p.tensor + numbers({5}, 3) * 0.1);
    }
    const onnx_test::Model graph = written(net, 5, 8, 10);
    for (const double spread : {1, 6}) CHECK(difference(net, graph, {4}, spread) < 1e-6);
  }
}

TEST_CASE("activations that ONNX has are one node or few") {
  for (const auto& [activation, nodes] :
       {std::pair(Activation::relu, 1), std::pair(Activation::elu, 1), std::pair(Activation::silu, 2),
        std::pair(Activation::mish, 3), std::pair(Activation::hardswish, 2),
        std::pair(Activation::gelu, 5)}) {
    Function model([act = activation](const Tensor& x) { return flatten(weft::activation(x, act)); });
    CHECK(int(written(model, 3, 4, 4).nodes.size()) == nodes + 2);  // and back to NHWC, flat
  }
}

TEST_CASE("every op of the table, in both layouts") {
  const Tensor w = numbers({4, 3, 2, 6}, 1), wt = numbers({4, 3, 2, 3}, 2), one = numbers({4}, 3);
  using F = std::function<Tensor(const Tensor&)>;
  const auto positive = [](const Tensor& x) { return square(x) + 1.0; };
  for (const auto& [op, f] : std::vector<std::pair<const char*, F>>{
           {"unary", [&](const Tensor& x) { return exp(-abs(x)) + log(positive(x)) * sqrt(positive(x)); }},
           {"binary", [&](const Tensor& x) { return maximum(x, one) / positive(minimum(x, x * one)) - x; }},
           {"reciprocal", [&](const Tensor& x) { return reciprocal(positive(x)) * 2.0 - 1.0; }},
           {"sums", [](const Tensor& x) { return x * sum(x, {3}, true) + sum(x, {1, 2}, true); }},
           {"extremes", [](const Tensor& x) { return amax(x, {1}, true) - amin(x, {-1}, true); }},
           {"means", [](const Tensor& x) { return mean(x, {2}); }},
           {"sum of rows", [](const Tensor& x) { return sum(x, {1, 2}); }},
           {"conv", [&](const Tensor& x) {
              return conv2d(concat({x, x * 2.0, narrow(x, 3, 1, 2), narrow(x, 3, 0, 2)}, 3), w, one,
                            {.stride = 2, .padding = 2, .dilation = 2, .groups = 2});
            }},
           {"conv_transpose", [&](const Tensor& x) {
              return conv_transpose2d(x, wt, numbers({6}, 4),
                                      {.stride = 3, .padding = 1, .output_padding = 2, .dilation = 2, .groups = 2});
            }},
           {"conv1d", [&](const Tensor& x) {
              return conv1d(flatten(permute(x, {0, 3, 1, 2}), 2), numbers({2, 3, 20}, 5), {}, {.padding = 1});
            }},
           {"pools", [](const Tensor& x) {
              return max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true}) -
                     avg_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true,
                                    .count_include_pad = false});
            }},
           {"average with padding", [](const Tensor& x) {
              return avg_pool2d(x, {.kernel = 3, .stride = 3, .padding = 1});
            }},
           {"padding", [](const Tensor& x) { return pad(x, {1, 2, 0, 1}) * 2.0; }},
           {"products", [](const Tensor& x) {
              const Tensor m = reshape(x, {x.size(0), 20, 4});
              return bmm(bmm(m, m, {.transpose_b = true}), linear(m, numbers({7, 4}, 6), numbers({7}, 7)));
            }},
           {"layer norm", [](const Tensor& x) {
              return layer_norm(x, {5, 4}, numbers({5, 4}, 8), numbers({5, 4}, 9), 1e-3) + layer_norm(x, {4});
            }},
           {"add_activation", [](const Tensor& x) { return add_activation(x, x * x, Activation::silu); }},
           {"split", [](const Tensor& x) { return concat({split(x, 2, 1)[1], split(x, 2, 1)[0]}, -1); }}}) {
    const std::string name = op;
    CAPTURE(name);
    for (const bool image : {true, false}) {  // the channels come first, then not
      Function model([&, f = f](const Tensor& x) {
        const Tensor y = f(image ? x : permute(permute(x, {0, 3, 1, 2}), {0, 2, 3, 1}));
        return flatten(y);
      });
      CHECK(difference(model, 4, 4, 5) < 2e-6);
    }
  }
}

TEST_CASE("what no graph can say is refused by name") {
  const auto error = [](const std::function<Tensor(const Tensor&)>& f) {
    Function model(f);
    return error_of([&] { app::onnx::make_graph(model, 4, 4, 4); });
  };
  CHECK(mentions(error([](const Tensor& x) { return flatten(group_norm(x, 2, {}, {})); }),
                 "the op group_norm"));
  CHECK(mentions(error([](const Tensor& x) { return flatten(x * x.at(0)); }),
                 "is another for 2 images than for 3"));
  CHECK(
      mentions(error([](const Tensor& x) { return flatten(x.size(0) == 2 ? exp(x) : -x); }), "the node Exp"));
  CHECK(mentions(error([](const Tensor& x) {
                   return numbers({x.size(0), 2}, 1);
                 }),
                 "does not depend on the images"));
  CHECK(mentions(error([](const Tensor& x) { return flatten(narrow(x, 0, 0, 1)); }), "a row for each"));
  CHECK(mentions(error([](const Tensor& x) { return sum(x); }), "a row for each"));
  CHECK(mentions(error([](const Tensor& x) {
                   const Tensor rows = flatten(x);
                   return matmul(rows, rows, {.transpose_b = true});
                 }),
                 "the shape of logits"));
  CHECK(mentions(error([](const Tensor& x) { return flatten(narrow(x, 0, 0, x.size(0) - 1)); }),
                 "a row for each"));
  CHECK(mentions(error([](const Tensor& x) {
                   return flatten(avg_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true}));
                 }),
                 "hang over the edge"));
  const auto model = make_model("resnet20", {});
  const app::onnx::Model graph = app::onnx::make_graph(*model, 3, 8, 8);
  CHECK(mentions(error_of([&] { app::onnx::save(at("large.onnx"), graph, 1'000'000); }),
                 "bytes, but an ONNX file holds 1000000"));
  CHECK(!fs::exists(at("large.onnx")));
}

TEST_CASE("a constant with a row for each image is repeated by the graph, and weights are there once") {
  Function model([](const Tensor& x) {
    const Tensor tokens = reshape(x, {x.size(0), 4, 4});
    return flatten(concat({Tensor::full({x.size(0), 1, 4}, 3), tokens}, 1));
  });
  CHECK(difference(model, 4, 2, 2) == 0);
  CHECK(count(written(model, 4, 2, 2), "Expand") == 1);

  struct Twice : Module {
    Linear layer{*this, "layer", 4, 4};
    Tensor forward(const Tensor& x) override { return layer(layer(mean(x, {1, 2}))); }
  } twice;
  const onnx_test::Model graph = written(twice, 4, 2, 2);
  CHECK(graph.constants.size() == 2);
  REQUIRE(graph.constants.contains("layer.weight"));
  CHECK(graph.constants.at("layer.weight").data[1] == twice.layer.weight.at(1));
}

TEST_CASE("weights go out under PyTorch's names and in its layouts") {
  XResNetPlan plan = resnext_plan(18, 16);
  plan.blocks = {1, 1, 1, 1};
  XResNet net(plan, {.self_attention = true});
  const StateDict ours = net.state_dict(), theirs = app::pytorch_state_dict(net, 3, 16, 16);
  const Tensor conv = find(ours, "stages.0.0.conv1.weight"),
               exported = find(theirs, "stages.0.0.conv1.weight");
  REQUIRE(exported.shape() == Shape{conv.size(0), conv.size(3), 3, 3});  // OIHW
  const auto strided = [](const Tensor& t, std::initializer_list<int64_t> index) {
    int64_t flat = 0, d = 0;
    for (int64_t i : index) flat = flat * t.size(int(d++)) + i;
    return t.at(flat);
  };
  CHECK(strided(exported, {7, 1, 2, 0}) == strided(conv, {7, 2, 0, 1}));
  CHECK(find(theirs, "stem.0.bn.num_batches_tracked").shape() == Shape{});
  CHECK(find(theirs, "stem.0.bn.num_batches_tracked").dtype() == DType::i64);
  CHECK(find(theirs, "stem.0.bn.running_var").shape() == Shape{32});
  CHECK(find(theirs, "stages.0.0.attention.conv.weight_orig").shape() == Shape{64, 64, 1});
  CHECK(find(theirs, "stages.0.0.attention.conv.weight_u").shape() == Shape{64});
  CHECK(!find(theirs, "stages.0.0.attention.conv.weight").defined());
  CHECK(find(theirs, "head.weight").raw() == find(ours, "head.weight").raw());

  // Behind a flattened image the columns are in the order of NCHW.
  const auto mlp = make_model("mlp", {.image_size = 4});
  const Tensor w = find(mlp->state_dict(), "hidden.linear0.weight"),
               columns = find(app::pytorch_state_dict(*mlp, 3, 4, 4), "hidden.linear0.weight");
  REQUIRE(columns.shape() == w.shape());
  for (int64_t c = 0; c < 3; ++c)
    CHECK(strided(columns, {5, (c * 4 + 2) * 4 + 3}) == strided(w, {5, (2 * 4 + 3) * 3 + c}));
  const auto deep = make_model("depth15", {.image_size = 16});
  const Tensor dense = find(deep->state_dict(), "dense.hidden.linear0.weight"),
               reordered = find(app::pytorch_state_dict(*deep, 3, 16, 16), "dense.hidden.linear0.weight");
  CHECK(strided(reordered, {5, (49 * 4 + 2) * 4 + 1}) == strided(dense, {5, (2 * 4 + 1) * 50 + 49}));

  struct Sequences : Module {
    Conv1d one{*this, "one", 3, 4, {.kernel = 5, .padding = 2}};
    ConvTranspose2d up{*this, "up", 3, 4, {.kernel = 2}};
    Tensor token = register_parameter("token", Tensor::ones({1, 2, 3}));
    Tensor forward(const Tensor& x) override { return x; }
  } sequences;
  const StateDict mixed = app::pytorch_state_dict(sequences, 3, 4, 4);
  CHECK(find(mixed, "one.weight").shape() == Shape{4, 3, 5});
  CHECK(find(mixed, "up.weight").shape() == Shape{3, 4, 2, 2});
  CHECK(find(mixed, "token").shape() == Shape{1, 2, 3});
}

TEST_CASE("weft export writes both forms of a saved model") {
  app::ModelInfo info;
  info.model = "resnet20", info.activation = "mish", info.size = 16, info.classes = {"a", "b \"c\""};
  const auto model = app::build_model(info);
  fs::create_directories(at("exported"));
  app::save_model(at("exported/model.safetensors"), *model, info);
  for (const std::string from : {"exported", "exported/model.safetensors"}) {
    const Result r = weft_run({"export", at(from), "--out", at("out.onnx")});
    CHECK_MESSAGE(r.code == 0, r.err);
    CHECK(r.out.find("images [N, 3, 16, 16] -> logits [N, 2]") != std::string::npos);
  }
  const onnx_test::Model graph = onnx_test::read(read_file(at("out.onnx")));
  CHECK(graph.producer == "weft");
  CHECK(json::parse(graph.metadata.at("classes")) == json{"a", "b \"c\""});
  CHECK(json::parse(graph.metadata.at("mean")).size() == 3);
  CHECK(json::parse(graph.metadata.at("std"))[0].get<float>() == info.normalize.std[0]);
  CHECK(graph.metadata.at("size") == "16");

  const Result r = weft_run({"export", at("exported"), "--out", at("out.safetensors")});
  CHECK_MESSAGE(r.code == 0, r.err);
  std::map<std::string, std::string> metadata;
  const StateDict state = load_safetensors(at("out.safetensors"), &metadata);
  CHECK(find(state, "conv1.weight").shape() == Shape{16, 3, 3, 3});
  CHECK(find(state, "bn1.num_batches_tracked").at(0) == 0);
  CHECK(metadata.at("format") == "pt");
  CHECK(metadata.at("activation") == "mish");
  CHECK(metadata.at("classes") == graph.metadata.at("classes"));

  write_file(at("exported/config.json"), "{}");
  write_file(at("exported/checkpoint.safetensors"), "x");
  const Result over = weft_run({"export", at("exported"), "--out", at("exported/checkpoint.safetensors")});
  CHECK(over.code == 2);
  CHECK(mentions(over.err, "a file of a run"));
  CHECK(mentions(weft_run({"export", at("exported"), "--out", at("out.pt")}).err, ".onnx or .safetensors"));
  CHECK(weft_run({"export", at("exported"), "--out", at("out.pt")}).code == 2);
  CHECK(weft_run({"export", at("exported"), "--out", ".onnx"}).code == 2);
  CHECK(weft_run({"export", at("exported")}).code == 2);
  const std::string before = read_file(at("exported/model.safetensors"));
  const Result itself = weft_run({"export", at("exported"), "--out", at("exported/model.safetensors")});
  CHECK(itself.code == 2);
  CHECK(mentions(itself.err, "that is the model itself"));
  CHECK(read_file(at("exported/model.safetensors")) == before);
  const Result nothing = weft_run({"export", at("nothing"), "--out", at("out.onnx")});
  CHECK(nothing.code == 1);
  CHECK(mentions(nothing.err, at("nothing")));
  const Result exported = weft_run({"export", at("out.safetensors"), "--out", at("again.onnx")});
  CHECK(exported.code == 1);
  CHECK(mentions(exported.err, "not a model that weft train wrote"));
  const Result nowhere = weft_run({"export", at("exported"), "--out", at("no/folder/out.onnx")});
  CHECK(nowhere.code == 1);
  CHECK(mentions(nowhere.err, at("no/folder/out.onnx")));
}
