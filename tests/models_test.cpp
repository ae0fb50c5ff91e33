// The models: built as the originals are, saved and loaded, summarised.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <random>

#include "support/errors.h"
#include "support/light.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/safetensors.h"
#include "weft/engine/tape.h"
#include "weft/layers/layers.h"

using namespace weft;

namespace {

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.to_vector<float>() == b.to_vector<float>();
}

StateDict copy_of_state(const Module& m) {
  StateDict copy;
  for (const auto& [name, tensor] : m.state_dict()) copy.emplace_back(name, tensor.clone());
  return copy;
}
/// The names of the entries that differ.
std::vector<std::string> changed(const StateDict& before, const Module& m) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : m.state_dict())
    if (!same_bits(tensor, find(before, name))) names.push_back(name);
  return names;
}

double std_of(const Tensor& t) {
  double sum = 0, square = 0;
  for (float x : t.to_vector<float>()) sum += x, square += double(x) * x;
  const auto n = double(t.numel());
  return std::sqrt(square / n - sum * sum / (n * n));
}

}  // namespace

TEST_CASE("XResNet: the parameters and buffers of the original") {
  // From mxresnet.py of lessw2020/Ranger-Mish-ImageWoof-5 with c_out=10, counted in PyTorch
  // (num_batches_tracked aside).
  struct Row {
    int depth;
    int64_t parameters, with_attention, buffers;
  };
  const Row rows[] = {
      {18, 11228586, 11232683, 9920},    {34, 21336746, 21340843, 17344},   {50, 23575466, 23641003, 53824},
      {101, 42567594, 42633131, 106048}, {152, 58211242, 58276779, 152128},
  };
  for (const Row& row : rows) {
    if (test::light() && row.depth > 50) continue;
    CAPTURE(row.depth);
    const XResNet model(row.depth, {.self_attention = true});
    CHECK(model.num_parameters() == row.with_attention);
    int64_t buffers = 0, attention = 0;
    for (const Parameter& b : model.buffers()) buffers += b.tensor.numel();
    CHECK(buffers == row.buffers);
    for (const Parameter& p : model.parameters())
      if (mentions(p.name, "attention")) attention += p.tensor.numel();
    CHECK(model.num_parameters() - attention == row.parameters);
  }
  CHECK(XResNet(18).num_parameters() == rows[0].parameters);
}

TEST_CASE("XResNet: multiply-adds of the original at 128 pixels") {
  // Convolutions and linear layers of the original, counted in PyTorch by forward hooks.
  CHECK(summarize(*make_model("mxresnet18"), {1, 128, 128, 3}).multiply_adds() == 783684608);
  CHECK(summarize(*make_model("xresnet50"), {1, 128, 128, 3}).multiply_adds() == 1526091776);
  // Attention on 32 x 32 pixels of 64 channels: two products over the pixels, one of matrices, and W v of the
  // norm.
  const int64_t c = 64, pixels = 32 * 32;
  CHECK(summarize(*make_model("mxresnet18", {.self_attention = true}), {1, 128, 128, 3}).multiply_adds() ==
        783684608 + 2 * pixels * c * c + c * c * c + c * c);
}

TEST_CASE("XResNet: names, shapes and where things are") {
  XResNet model(50, {.self_attention = true, .in_channels = 1, .classes = 7});
  const StateDict state = model.state_dict();
  CHECK(find(state, "stem.0.conv.weight").shape() == Shape{32, 3, 3, 1});
  CHECK(find(state, "stem.2.bn.running_var").shape() == Shape{64});
  CHECK(find(state, "stages.0.0.conv1.weight").shape() == Shape{64, 1, 1, 64});
  CHECK(find(state, "stages.0.0.shortcut.conv.weight").shape() == Shape{256, 1, 1, 64});
  CHECK(find(state, "stages.0.2.attention.conv.weight").shape() == Shape{256, 256});
  CHECK(find(state, "stages.1.0.conv2.weight").shape() == Shape{128, 3, 3, 128});
  CHECK(find(state, "stages.3.2.conv3.weight").shape() == Shape{2048, 1, 1, 512});
  CHECK(find(state, "head.weight").shape() == Shape{7, 2048});
  int attentions = 0;
  for (const auto& [name, tensor] : state) attentions += mentions(name, "gamma");
  CHECK(attentions == 1);

  // Odd sizes round up, as the original's do.
  const ModelSummary s = summarize(model, {2, 75, 50, 1});
  const auto output = [&](const std::string& path) {
    for (const SummaryRow& row : s.rows)
      if (row.path == path) return row.output;
    return Shape{};
  };
  CHECK(output("stem") == Shape{2, 38, 25, 64});
  CHECK(output("pool") == Shape{2, 19, 13, 64});
  CHECK(output("stages.0") == Shape{2, 19, 13, 256});
  CHECK(output("stages.3") == Shape{2, 3, 2, 2048});
  CHECK(output("avgpool") == Shape{2, 2048});
  CHECK(output("") == Shape{2, 7});
}

TEST_CASE("XResNet: initial values") {
  Generator generator(1);
  XResNet model(18, {.self_attention = true}, generator);
  for (const Parameter& p : model.parameters()) {
    CAPTURE(p.name);
    const Shape& s = p.tensor.shape();
    if (s.ndim() >= 2 &&
        p.tensor.numel() > 1000) {  // fan_in of OHWI and of matrices: all but the first dimension
      const double fan_in = double(s.numel(1, s.ndim()));
      CHECK(std_of(p.tensor) == doctest::Approx(std::sqrt(2 / fan_in)).epsilon(0.06));
    }
    if (s.ndim() == 1) {
      // A block ends in conv2 and bn2, whose weight starts at 0; all other batch norms' start at 1.
      const bool zero =
          mentions(p.name, "bn2.weight") || mentions(p.name, "bias") || mentions(p.name, "gamma");
      for (float x : p.tensor.to_vector<float>()) REQUIRE(x == (zero ? 0.0f : 1.0f));
    }
  }
  Generator again(1), other(2);
  CHECK(changed(copy_of_state(model), XResNet(18, {.self_attention = true}, again)).empty());
  CHECK_FALSE(changed(copy_of_state(model), XResNet(18, {.self_attention = true}, other)).empty());
}

TEST_CASE("XResNet: a state dict survives the file, bit for bit") {
  Generator a(3), b(4);
  XResNet from(18, {.self_attention = true}, a), to(18, {.self_attention = true}, b);
  const Tensor x = Tensor::normal({2, 32, 32, 3}, 0, 1, a);
  from(x);  // in training: running statistics, u and v move
  from.eval(), to.eval();
  CHECK_FALSE(same_bits(from(x), to(x)));

  const auto file = std::filesystem::temp_directory_path() /
                    concat("weft_models_test_", std::random_device{}(), ".safetensors");
  save_safetensors(file.string(), from.state_dict());
  to.load_state_dict(load_safetensors(file.string()));
  std::filesystem::remove(file);
  CHECK(changed(from.state_dict(), to).empty());
  CHECK(same_bits(from(x), to(x)));

  XResNet plain(18, {.classes = 7});
  const std::string error = error_of([&] { plain.load_state_dict(from.state_dict()); });
  CHECK(mentions(error, "head.weight has shape [10, 512] but the model expects [7, 512]"));
  CHECK(mentions(error, "stages.0.1.attention.gamma is not in the model"));
}

TEST_CASE("XResNet: training and evaluation") {
  Generator generator(5);
  XResNet model(18, {.self_attention = true}, generator);
  // Break the symmetry of the start, at which each block is its shortcut.
  for (const Parameter& p : model.parameters())
    if (mentions(p.name, "bn2.weight") || mentions(p.name, "gamma")) p.tensor.fill(0.1);
  const Tensor x = Tensor::normal({4, 32, 32, 3}, 0, 1, generator);

  StateDict before = copy_of_state(model);
  model(x);
  for (const std::string& name : changed(before, model))
    CHECK_MESSAGE((mentions(name, "running") || mentions(name, ".u") || mentions(name, ".v")), name);
  CHECK(changed(before, model).size() == model.buffers().size());

  model.eval();
  before = copy_of_state(model);
  const Tensor whole = model(x);
  CHECK(changed(before, model).empty());
  const Tensor alone = model(
      Tensor::from(std::vector<float>(x.data<float>(), x.data<float>() + x.numel() / 4), {1, 32, 32, 3}));
  for (int c = 0; c < 10; ++c) CHECK(alone.at(c) == doctest::Approx(whole.at(c)).epsilon(1e-4));

  model.train();
  Tape tape;
  const Tensor loss = cross_entropy(model(x), Tensor::from<int64_t>({0, 1, 2, 3}, {4}));
  tape.backward(loss);
  for (const Parameter& p : model.parameters()) {
    CAPTURE(p.name);
    REQUIRE(p.tensor.grad().defined());
    double norm = 0;
    for (float g : p.tensor.grad().to_vector<float>()) norm += double(g) * g;
    CHECK(std::isfinite(norm));
    CHECK(norm > 0);
  }
}

TEST_CASE("XResNet: a part of something larger") {
  Sequential net;
  net.emplace<XResNet>("backbone", 18, XResNetOptions{.activation = Activation::relu, .classes = 20});
  net.emplace<Dropout>("drop", 0.5);
  net.emplace<Linear>("head", 20, 2);
  CHECK(find(net.state_dict(), "backbone.stages.3.1.bn2.weight").defined());
  CHECK(net(Tensor::ones({2, 32, 32, 3})).shape() == Shape{2, 2});
}

TEST_CASE("every model can be a part of another module") {
  struct Whole : Module {
    TokenTransformer tokens{*this, "tokens", 7, {.max_length = 5, .width = 8, .depth = 1, .heads = 2}};
    VisionTransformer patches{
        *this, "patches", {.patch = 4, .width = 8, .depth = 1, .heads = 2, .class_token = true}};
    CifarResNet resnet{*this, "resnet", 8};
    CifarResNetV2 resnet2{*this, "resnet2", 11};
    DepthNet depth{*this, "depth", 1, {.image_size = 10}};
    Module& made = adopt("made", make_model("mlp", {.image_size = 4}));
  };
  manual_seed(3);
  Whole whole;
  manual_seed(3);
  const TokenTransformer alone(7, {.max_length = 5, .width = 8, .depth = 1, .heads = 2});
  CHECK(same_bits(whole.tokens.head.weight, alone.head.weight));
  const StateDict state = whole.state_dict();
  for (const char* name :
       {"tokens.encoder.layers.0.linear1.weight", "patches.class_token", "resnet.layer1.0.conv1.weight",
        "resnet2.bn.running_mean", "depth.dense.head.bias", "made.head.weight"})
    CHECK_MESSAGE(find(state, name).defined(), name);
  int64_t n = 0;
  for (const Module::Child& child : whole.children()) n += child.module->num_parameters();
  CHECK(whole.children().size() == 6);
  CHECK(whole.num_parameters() == n);
  whole.eval();
  CHECK(!whole.patches.encoder.training());
  CHECK(!whole.depth.dropout.training());
}

TEST_CASE("Sequential takes modules that are there") {
  Sequential net;
  Module& body = net.append("body", make_model("resnet20", {.classes = 6}));
  net.emplace<Linear>("head", 6, 2);
  CHECK(&net[0] == &body);
  CHECK(net(Tensor::ones({2, 8, 8, 3})).shape() == Shape{2, 2});
  CHECK(find(net.state_dict(), "body.linear.bias").defined());
  CHECK_ERROR(net.append("body", make_model("resnet20")), "the name \"body\" is taken");
  CHECK_ERROR(net.append("tail", nullptr), "append(\"tail\"): there is no module");
  CHECK(net.size() == 2);
}

TEST_CASE("make_model: names, activations, errors") {
  CHECK(make_model("mxresnet18")->description() == "XResNet18(mish)");
  CHECK(make_model("xresnet34")->description() == "XResNet34(relu)");
  CHECK(make_model("xresnet18", {.activation = Activation::gelu})->description() == "XResNet18(gelu)");
  for (const char* wrong : {"resnet18", "mxresnet", "mxresnet19", "", "xresnet18 "}) {
    const std::string error = error_of([&] { make_model(wrong); });
    for (const std::string& name : model_names()) CHECK(mentions(error, name));
  }
  CHECK(mentions(error_of([] { XResNet(20); }), "18, 34, 50, 101, 152"));
  CHECK(mentions(error_of([] { XResNet(18, {.classes = 0}); }), "0 classes"));
  CHECK(mentions(error_of([] { XResNet(18)(Tensor::ones({1, 32, 32, 4})); }), "conv2d"));
}

TEST_CASE("summary: counts, table, and the model as it was") {
  Generator generator(6);
  XResNet model(18, {.self_attention = true}, generator);
  model.stages[0].eval();
  const StateDict before = copy_of_state(model);
  const ModelSummary s = summarize(model, {2, 64, 64, 3});
  CHECK(changed(before, model).empty());
  CHECK(model.training());
  CHECK(model.head->training());
  CHECK_FALSE(model.stages[0].training());
  CHECK_FALSE(model.stages[0].children()[0].module->training());
  CHECK(model.stages[1].children()[0].module->training());
  CHECK(Tape::current() == nullptr);

  CHECK(s.parameters() == model.num_parameters());
  CHECK(s.buffers == 9920);
  int64_t parameters = 0, multiply_adds = 0;
  for (const SummaryRow& row : s.rows) {
    if (row.depth == 1) parameters += row.parameters, multiply_adds += row.multiply_adds;
    CHECK_MESSAGE(row.ran, row.path);
  }
  CHECK(parameters == s.parameters());
  CHECK(multiply_adds == s.multiply_adds());
  const auto conv =
      std::find_if(s.rows.begin(), s.rows.end(), [](auto& r) { return r.path == "stages.1.0.conv1"; });
  REQUIRE(conv != s.rows.end());
  CHECK(conv->output == Shape{2, 8, 8, 128});
  CHECK(conv->parameters == 128 * 9 * 64);
  CHECK(conv->multiply_adds == 2 * 8 * 8 * 128 * 9 * 64);
  CHECK(conv->depth == 4);

  const std::string text = summary(model, {2, 64, 64, 3});
  CHECK(mentions(text, "Conv2d(3, 32, kernel 3, stride 2, padding 1, no bias)"));
  CHECK(mentions(text, "[2, 10]"));
  CHECK(mentions(text, "11,232,683 parameters"));
  CHECK(std::count(text.begin(), text.end(), '\n') == int64_t(s.rows.size()) + 2);
  const std::string top = s.to_string(1);
  CHECK(std::count(top.begin(), top.end(), '\n') == 1 + 1 + 5 + 1);  // heading, model, its five parts, totals

  // An input that does not fit is an error, and the modes are put back all the same.
  CHECK_THROWS_AS(summarize(model, {1, 64, 64, 5}), Error);
  CHECK(model.training());
  CHECK_FALSE(model.stages[0].training());
}

TEST_CASE("summary: layer 1 is not layer 10") {
  Sequential net;
  for (int i = 0; i < 12; ++i) net.emplace<Linear>(std::to_string(i), 3 + i, 4 + i);
  const ModelSummary s = summarize(net, {1, 3});
  REQUIRE(s.rows.size() == 13);
  for (int i = 0; i < 12; ++i) {
    CHECK(s.rows[size_t(i) + 1].output == Shape{1, 4 + i});
    CHECK(s.rows[size_t(i) + 1].multiply_adds == (3 + i) * (4 + i));
  }
}

TEST_CASE("summary: a module that does not run, and f64") {
  struct Net : Module {
    Linear used{*this, "used", 4, 2};
    Linear idle{*this, "idle", 4, 2};
    Tensor forward(const Tensor& x) override { return used(x); }
  } net;
  net.to(DType::f64);
  const ModelSummary s = summarize(net, {3, 4});
  REQUIRE(s.rows.size() == 3);
  CHECK(s.rows[1].ran);
  CHECK(s.rows[1].multiply_adds == 3 * 4 * 2);
  CHECK_FALSE(s.rows[2].ran);
  CHECK(s.parameters() == 20);
  CHECK(mentions(s.to_string(), "not run"));
}
