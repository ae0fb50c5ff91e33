// The catalogue of models: sizes as PyTorch counts them, every name trains, on any activation, recomputed
// too.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "golden/model_counts.h"
#include "support/errors.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/tape.h"
#include "weft/layers/layers.h"

using namespace weft;

namespace {

bool starts_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

/// A small one of each kind.
const char* const kOneOfEachKind[] = {"mxresnet18-trick", "mxresnet-dw2", "xse_resnext18", "xresnext18",
                                      "resnet20",         "resnet20v2",   "vit-tiny",      "mlp",
                                      "depth15",          "plain15"};

/// One training step on random images; returns the gradients of all parameters.
std::vector<std::vector<float>> gradients_of(const std::string& name, const ModelOptions& options,
                                             int64_t size) {
  Generator generator(5);
  ModelOptions own = options;
  own.image_size = size;
  manual_seed(8);  // dropout draws from the generator that the model was made with
  const auto model = make_model(name, own);
  const Tensor x = Tensor::normal({4, size, size, own.in_channels}, 0, 1, generator);
  Tape tape;
  tape.backward(cross_entropy((*model)(x), Tensor::from<int64_t>({0, 1, 2, 1}, {4})));
  std::vector<std::vector<float>> gradients;
  for (const Parameter& p : model->parameters()) {
    REQUIRE_MESSAGE(p.tensor.grad().defined(), p.name);
    gradients.push_back(p.tensor.grad().to_vector<float>());
    REQUIRE_MESSAGE(std::all_of(gradients.back().begin(), gradients.back().end(),
                                [](float g) { return std::isfinite(g); }),
                    p.name);
  }
  return gradients;
}

}  // namespace

TEST_CASE("every model has the parameters and multiply-adds that PyTorch counts") {
  std::set<std::string> names;
  for (const ModelEntry& entry : model_catalogue()) {
    CAPTURE(entry.name);
    CHECK(names.insert(entry.name).second);
    CHECK_FALSE(entry.description.empty());
    CHECK_FALSE(entry.source.empty());
    for (const ModelCount& count : kModelCounts)
      if (entry.name == count.name) {
        CHECK(entry.size == count.size);
        CHECK(entry.parameters == count.parameters);
        CHECK(entry.multiply_adds == count.multiply_adds);
      }
    // These are mxresnet's, and the depth studies' next ones.
    if (starts_with(entry.name, "xresnet") || (starts_with(entry.name, "depth") && entry.name > "depth16") ||
        (starts_with(entry.name, "plain") && entry.name > "plain16"))
      continue;
    const auto model = make_model(entry.name, {.image_size = entry.size});
    const ModelSummary s = summarize(*model, {1, entry.size, entry.size, 3});
    CHECK(s.parameters() == entry.parameters);
    CHECK(s.multiply_adds() == entry.multiply_adds);
  }
  for (const ModelCount& count : kModelCounts) CHECK_MESSAGE(names.count(count.name) == 1, count.name);
}

TEST_CASE("one of each kind: activations, gradients, and the same bits recomputed") {
  for (const char* name : kOneOfEachKind) {
    CAPTURE(name);
    const int64_t size = std::max<int64_t>(find_model(name).smallest_size, 16);
    const ModelOptions options{.activation = Activation::gelu, .classes = 3};
    ModelOptions saving = options;
    saving.recompute = true;
    CHECK(gradients_of(name, options, size) == gradients_of(name, saving, size));
    const ModelOptions learning{.activation = Activation::prelu, .classes = 3};
    CHECK(gradients_of(name, learning, size).size() > gradients_of(name, options, size).size());
  }
}

TEST_CASE("the smallest images that a model takes") {
  for (const char* name : kOneOfEachKind) {
    CAPTURE(name);
    const int64_t size = find_model(name).smallest_size;
    const auto model = make_model(name, {.classes = 3, .image_size = size});
    model->eval();
    CHECK((*model)(Tensor::ones({2, size, size, 3})).shape() == Shape{2, 3});
  }
}

TEST_CASE("images that are too small to be mirrored in the last pooling") {
  for (const char* name : {"mxresnet18-trick", "mxresnet-dw2"}) {
    CAPTURE(name);
    const auto model = make_model(name);
    CHECK_ERROR((*model)(Tensor::ones({1, 32, 32, 3})), "the image 2x2 is too small to be mirrored");
  }
}

TEST_CASE("self-attention where there is a place for it") {
  const auto with = make_model("mxresnet18-trick", {.self_attention = true});
  CHECK(with->num_parameters() == find_model("mxresnet18-trick").parameters + 64 * 64 + 1);
  CHECK_ERROR(make_model("resnet20", {.self_attention = true}), "resnet20 has no place for self-attention");
  CHECK_ERROR(make_model("mlp", {.symmetric = true}), "mlp has no place for self-attention");
  CHECK_ERROR(find_model("resnet18"), "mxresnet18, ");
}

TEST_CASE("names in the state") {
  const StateDict dw = make_model("mxresnet-dw2")->state_dict();
  CHECK(find(dw, "stem.0.depthwise.weight").shape() == Shape{6, 3, 3, 1});
  CHECK(find(dw, "stages.1.5.conv2.weight").shape() == Shape{256, 3, 3, 1});
  CHECK(find(dw, "stages.2.7.bn3.weight").defined());
  const StateDict norm = make_model("mxresnet-dw4-bn")->state_dict();
  CHECK(find(norm, "stem.0.conv.weight").shape() == Shape{32, 3, 3, 3});
  CHECK(find(norm, "stages.1.5.bn2.weight").shape() == Shape{512});
  const StateDict se = make_model("xse_resnext50")->state_dict();
  CHECK(find(se, "stages.0.0.conv2.weight").shape() == Shape{128, 3, 3, 4});
  CHECK(find(se, "stages.3.2.squeeze.fc1.weight").shape() == Shape{128, 2048});
  const StateDict cifar = make_model("resnet20")->state_dict();
  CHECK(find(cifar, "layer2.0.conv1.weight").shape() == Shape{32, 3, 3, 16});
  CHECK(find(cifar, "linear.weight").shape() == Shape{10, 64});
  const StateDict v2 = make_model("resnet20v2")->state_dict();
  CHECK(find(v2, "layer1.0.shortcut.weight").shape() == Shape{64, 1, 1, 16});
  CHECK(!find(v2, "layer1.0.bn1.weight").defined());
  CHECK(find(v2, "layer2.1.conv2.weight").shape() == Shape{64, 3, 3, 64});
  CHECK(find(v2, "bn.running_var").shape() == Shape{256});
}
